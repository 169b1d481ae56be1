package main

import (
	"errors"
	"fmt"
	"strings"

	"tellergate/admin/api"
)

// Exit codes; rootHelp and docs/tgctl.md explain them.
const (
	exitDone        = 0
	exitNo          = 1
	exitUsage       = 2
	exitConflict    = 3
	exitUnreachable = 4
	exitRefused     = 5
	exitNotApplied  = 6
	exitUnknown     = 7
	exitInterrupted = 130
)

// A failure ends the invocation with a code. A nil err has been said already, as part of the data.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string {
	if f.err == nil {
		return fmt.Sprintf("exit code %d", f.code)
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

// no ends the invocation with the answer "no", which the data already gives.
func no() error { return &failure{code: exitNo} }

// usagef says what is wrong with the command line.
func usagef(format string, args ...any) error {
	return &failure{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// exit writes err to the messages, unless the data has said it, and returns the exit code. An error that is no failure
// comes from the parsing of the command line or from a file.
func (t *tool) exit(err error) int {
	if err == nil {
		return exitDone
	}
	code := exitUsage
	var f *failure
	if errors.As(err, &f) {
		code = f.code
		if f.err == nil {
			return code
		}
	}
	t.say("tgctl: %s", err)
	if code == exitUnknown {
		t.say("tgctl: unknown is not zero: nobody knows how many sessions there are until that is over")
	}
	var answer *api.Error
	if errors.As(err, &answer) && answer.Code == api.CodeStaleRevision {
		t.say("tgctl: tgctl history and tgctl diff N show what came in between")
	}
	return code
}

// say writes one message for the person.
func (t *tool) say(format string, args ...any) { fmt.Fprintf(t.messages, format+"\n", args...) }

// series joins words as in a sentence: a, b or c.
func series(words []string, joint string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " " + joint + " " + words[last]
}

// count writes n things in words: 1 value, 2 values. The plural of what ends in ch takes es.
func count(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "ch"):
		return fmt.Sprintf("%d %ses", n, what)
	}
	return fmt.Sprintf("%d %ss", n, what)
}

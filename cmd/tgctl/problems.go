package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"tellergate/admin/api"
	"tellergate/internal/problem"
)

// writeProblems prints one fault a line: FILE:line:col: path: message; remedy. kind is put before the path where it is
// not empty.
func writeProblems(w io.Writer, file, kind string, problems []problem.Problem) {
	for _, p := range problems {
		fmt.Fprintln(w, problemLine(file, kind, p))
	}
}

func problemLine(file, kind string, p problem.Problem) string {
	var b strings.Builder
	b.WriteString(file)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if kind != "" {
		b.WriteString(kind + ": ")
	}
	p.Line = 0
	b.WriteString(p.String())
	return b.String()
}

// A fileError is what is wrong in a file, every fault of it.
type fileError struct {
	file     string
	problems []problem.Problem
}

func (e *fileError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s has %s:", e.file, count(len(e.problems), "problem"))
	for _, p := range e.problems {
		b.WriteString("\n" + problemLine(e.file, "", p))
	}
	return b.String()
}

// inFile gives the faults in err the name of the file that they were found in.
func inFile(file string, err error) error {
	var list problem.List
	if errors.As(err, &list) {
		return &fileError{file, list}
	}
	return err
}

// liveRules stands for the name of a file where faults are in the live rules and not in what was sent.
const liveRules = "rules"

// refusedFile gives the faults of a refusal the name of the file that was sent, or of whatever else was asked for; where
// they are in the rule document, the document's.
func refusedFile(file, document string, err error) error {
	var answer *api.Error
	var f *failure
	if !errors.As(err, &f) || !errors.As(err, &answer) || len(answer.Problems) == 0 {
		return err
	}
	var b strings.Builder
	b.WriteString(answer.Detail)
	for _, p := range answer.Problems {
		place := file
		if strings.HasPrefix(p.Path, "services[") {
			place = document
		}
		b.WriteString("\n" + problemLine(place, "", p))
	}
	return &failure{f.code, errors.New(b.String())}
}

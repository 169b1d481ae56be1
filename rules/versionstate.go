package rules

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// SetState returns the text of a document in which a version is in another state, and nothing else has changed: comments,
// order and spelling stay. text is what document was read from. The error says why the text cannot be edited so, which is
// rare; the document itself is not touched.
func SetState(text []byte, document *Document, service, version, state string) ([]byte, error) {
	at := slices.IndexFunc(document.Services, func(s Service) bool { return s.Name == service })
	if at < 0 {
		return nil, fmt.Errorf("the document has no service %q", service)
	}
	versions := document.Services[at].Versions
	v := slices.IndexFunc(versions, func(v Version) bool { return v.Name == version })
	if v < 0 {
		return nil, fmt.Errorf("service %q has no version %q", service, version)
	}
	was := versions[v].State
	if was == state || was == "" && state == StateActive {
		return text, nil
	}
	path := fmt.Sprintf("services[%s].versions[%s]", service, version)
	edited, ok := withState(text, document, path, version, was, state)
	if ok {
		if again, err := Parse(edited); err == nil && same(document, again, at, v, state) {
			return edited, nil
		}
	}
	return nil, fmt.Errorf("the state of version %q stands in the document in a way that cannot be edited by itself: "+
		"change it by hand and apply the document", version)
}

// withState makes the edit; whether it is what was meant is for the caller to see.
func withState(text []byte, document *Document, path, version, was, state string) ([]byte, bool) {
	mapping, ok1 := offset(text, document, path)
	name, ok2 := offset(text, document, path+".name")
	if !ok1 || !ok2 {
		return nil, false
	}
	if was != "" {
		from, ok := offset(text, document, path+".state")
		if !ok {
			return nil, false
		}
		if text[from] == '"' || text[from] == '\'' {
			from++
		}
		if !bytes.HasPrefix(text[from:], []byte(was)) {
			return nil, false
		}
		return slices.Concat(text[:from], []byte(state), text[from+len(was):]), true
	}
	end := name + len(version)
	if text[name] == '"' || text[name] == '\'' {
		end += 2
	}
	if end > len(text) {
		return nil, false
	}
	if text[mapping] == '{' {
		added := ", state: " + state
		if rest := bytes.TrimLeft(text[mapping+1:], " \t\r\n"); len(rest) > 0 && rest[0] == '"' {
			added = `, "state": "` + state + `"`
		}
		return slices.Concat(text[:end], []byte(added), text[end:]), true
	}
	// The keys of a mapping that is not in braces begin in one column, the first where the mapping does.
	line := bytes.LastIndexByte(text[:mapping], '\n') + 1
	indent := strings.Repeat(" ", len([]rune(string(text[line:mapping]))))
	stop, ending := bytes.IndexByte(text[end:], '\n'), "\n"
	if stop < 0 {
		return slices.Concat(text, []byte("\n"+indent+"state: "+state)), true
	}
	if stop += end; text[stop-1] == '\r' {
		ending = "\r\n"
	}
	return slices.Concat(text[:stop+1], []byte(indent+"state: "+state+ending), text[stop+1:]), true
}

// offset returns where in text the value of a path begins.
func offset(text []byte, document *Document, path string) (int, bool) {
	line, column := document.source.Position(path)
	if line == 0 {
		return 0, false
	}
	at := 0
	for ; line > 1; line-- {
		next := bytes.IndexByte(text[at:], '\n')
		if next < 0 {
			return 0, false
		}
		at += next + 1
	}
	if at == 0 {
		at = len(text) - len(bytes.TrimPrefix(text, []byte("\ufeff")))
	}
	for i := range string(text[at:]) {
		if column--; column == 0 {
			return at + i, true
		}
	}
	return 0, false
}

// same reports whether edited is document with that version in that state.
func same(document, edited *Document, service, version int, state string) bool {
	if len(edited.Services) <= service || len(edited.Services[service].Versions) <= version ||
		edited.Services[service].Versions[version].State != state {
		return false
	}
	edited.Services[service].Versions[version].State = document.Services[service].Versions[version].State
	return reflect.DeepEqual(document.Services, edited.Services)
}

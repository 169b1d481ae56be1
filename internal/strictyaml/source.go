package strictyaml

import (
	"strconv"
	"strings"

	"tellergate/internal/problem"
)

// A Source remembers where each path of a decoded text stood. A nil *Source knows no place. It is immutable.
type Source struct{ root spot }

// A spot is where one value stood, with the spots of what is in it. The zero spot stood nowhere.
type spot struct {
	line, column int32

	keys     map[string]*spot // of a mapping; nil if it has none that were read
	elements []spot           // of a sequence
	names    map[string]int   // the elements that are addressed by name
}

// Position returns the 1-based place of path (as problem.Problem writes paths), or that of its closest ancestor that
// has one, or zeros.
func (s *Source) Position(path string) (line, column int) {
	if s == nil {
		return 0, 0
	}
	at := &s.root
	for next := at; next != nil && next.line > 0; {
		at = next
		next, path = at.step(path)
	}
	return int(at.line), int(at.column)
}

// Place fills in where p stands, unless it knows already.
func (s *Source) Place(p *problem.Problem) {
	if p.Line == 0 {
		p.Line, p.Column = s.Position(p.Path)
	}
}

// inner returns the spot of a key, which is new.
func (s *spot) inner(key string) *spot {
	if s.keys == nil {
		s.keys = map[string]*spot{}
	}
	s.keys[key] = &spot{}
	return s.keys[key]
}

// step follows the first step of path and returns the spot there, nil if there is none, and the rest of the path.
func (s *spot) step(path string) (next *spot, rest string) {
	if label, ok := strings.CutPrefix(path, "["); ok {
		label, rest, _ = strings.Cut(label, "]")
		i, named := s.names[label]
		if !named {
			var err error
			if i, err = strconv.Atoi(label); err != nil {
				return nil, ""
			}
		}
		if i < 0 || i >= len(s.elements) {
			return nil, ""
		}
		return &s.elements[i], rest
	}
	path = strings.TrimPrefix(path, ".")
	for end := len(path); end >= 0; end-- { // from the longest: keys may hold dots themselves
		if end == len(path) || path[end] == '.' || path[end] == '[' {
			if next, ok := s.keys[path[:end]]; ok {
				return next, path[end:]
			}
		}
	}
	return nil, ""
}

// A trail leads from the top of a text to one value, as a list of steps from the last to the first. It becomes a path
// only where there is a fault: paths of deep texts are long.
type trail struct {
	parent *trail // nil: this is the top
	key    string // of a mapping, or the name of an element
	index  int    // of an element without a name
	kind   stepKind
	depth  int
}

type stepKind int

const (
	stepKey stepKind = iota
	stepName
	stepIndex
)

func (t *trail) to(key string) *trail {
	return &trail{parent: t, key: key, depth: t.depth + 1}
}

func (t *trail) element(i int) *trail {
	return &trail{parent: t, index: i, kind: stepIndex, depth: t.depth + 1}
}

func (t *trail) named(name string) *trail {
	return &trail{parent: t, key: name, kind: stepName, depth: t.depth + 1}
}

// String returns the path as problem.Problem writes it.
func (t *trail) String() string {
	if t.parent == nil {
		return ""
	}
	path := t.parent.String()
	switch {
	case t.kind == stepIndex:
		return path + "[" + strconv.Itoa(t.index) + "]"
	case t.kind == stepName:
		return path + "[" + t.key + "]"
	case path == "":
		return keyText(t.key)
	}
	return path + "." + keyText(t.key)
}

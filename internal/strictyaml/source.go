package strictyaml

import (
	"strconv"
	"strings"

	"tellergate/internal/problem"
)

// A Source remembers where each path of a decoded text stood. A nil *Source knows no place. It is immutable.
type Source struct{ root spot }

// A spot is where one value stood, with the spots of what is in it. The zero spot stood nowhere. A document of a hundred
// thousand rules has two million of them.
type spot struct {
	line, column int32

	inside *inside // nil: nothing
}

// An inside is what a mapping or a sequence holds.
type inside struct {
	keys     []keyed        // of a mapping, those that were read
	index    map[string]int // of keys, where there are many
	elements []spot         // of a sequence
	names    map[string]int // the elements that are addressed by name
}

// A keyed is the spot of a key.
type keyed struct {
	key string
	spot
}

// searched is how many keys of a mapping are searched one by one.
const searched = 32

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

// inner returns the spot of a key, which is new. It is valid until the next call; of is how many there will be.
func (s *spot) inner(key string, of int) *spot {
	if s.inside == nil {
		s.inside = &inside{keys: make([]keyed, 0, of)}
		if of > searched {
			s.inside.index = make(map[string]int, of)
		}
	}
	in := s.inside
	if in.index != nil {
		in.index[key] = len(in.keys)
	}
	in.keys = append(in.keys, keyed{key: key})
	return &in.keys[len(in.keys)-1].spot
}

// find returns the spot of a key, nil if there is none.
func (in *inside) find(key string) *spot {
	if in.index != nil {
		if i, ok := in.index[key]; ok {
			return &in.keys[i].spot
		}
		return nil
	}
	for i := range in.keys {
		if in.keys[i].key == key {
			return &in.keys[i].spot
		}
	}
	return nil
}

// step follows the first step of path and returns the spot there, nil if there is none, and the rest of the path.
func (s *spot) step(path string) (next *spot, rest string) {
	in := s.inside
	if in == nil {
		return nil, ""
	}
	if label, ok := strings.CutPrefix(path, "["); ok {
		label, rest, _ = strings.Cut(label, "]")
		i, named := in.names[label]
		if !named {
			var err error
			if i, err = strconv.Atoi(label); err != nil {
				return nil, ""
			}
		}
		if i < 0 || i >= len(in.elements) {
			return nil, ""
		}
		return &in.elements[i], rest
	}
	path = strings.TrimPrefix(path, ".")
	for end := len(path); end >= 0; end-- { // from the longest: keys may hold dots themselves
		if end == len(path) || path[end] == '.' || path[end] == '[' {
			if next := in.find(path[:end]); next != nil {
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

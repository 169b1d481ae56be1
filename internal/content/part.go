package content

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"tellergate/internal/block"
	"tellergate/rules"
)

// Part names in a store.Revision. The rule document is one part; lists, organisations and overrides are one each.
const (
	RulesPart          = "rules"
	listPrefix         = "lists/"
	organisationPrefix = "organisations/"
	overridePrefix     = "overrides/"
)

// ListPart returns the part that holds the named list.
func ListPart(name string) string { return listPrefix + name }

// OrganisationPart returns the part that holds the organisation of a legal entity.
func OrganisationPart(legalEntity string) string { return organisationPrefix + legalEntity }

// OverridePart returns the part that holds the override of a service.
func OverridePart(service string) string { return overridePrefix + service }

// A Kind is what a part holds.
type Kind string

// The kinds of parts. As words they stand in messages and in the history.
const (
	Rules        Kind = "rules"
	List         Kind = "list"
	Organisation Kind = "organisation"
	Override     Kind = "override"
)

// ParsePart tells what the part holds and whose it is: the name of a list, the legal entity of an organisation, the
// service of an override, nothing for the rules. ok is false if this version of the program knows no such part.
func ParsePart(part string) (kind Kind, name string, ok bool) {
	if part == RulesPart {
		return Rules, "", true
	}
	for _, k := range []struct {
		prefix string
		kind   Kind
	}{{listPrefix, List}, {organisationPrefix, Organisation}, {overridePrefix, Override}} {
		if name, ok := strings.CutPrefix(part, k.prefix); ok && name != "" {
			return k.kind, name, true
		}
	}
	return "", "", false
}

// EncodeList returns the content of a list's part: the same bytes for the same list. pause may be nil. Who no longer needs
// it may hand it to Release.
func EncodeList(l *rules.List, pause rules.Pause) []byte {
	b := pausingBuffer{Buffer: *bytes.NewBuffer(block.Scratch(l.TextBytes())[:0]), pause: pause}
	b.must(l)
	return b.Bytes()
}

// Release takes back what EncodeList returned, megabytes perhaps, for the next list. Nobody may have a view of it any more.
func Release(text []byte) { block.Release(text) }

// A pausingBuffer pauses after every write.
type pausingBuffer struct {
	bytes.Buffer
	pause rules.Pause
}

// Write implements io.Writer.
func (b *pausingBuffer) Write(p []byte) (int, error) {
	if b.pause != nil {
		b.pause()
	}
	return b.Buffer.Write(p)
}

func (b *pausingBuffer) must(from io.WriterTo) {
	if _, err := from.WriteTo(b); err != nil {
		panic("BUG: writing to memory failed: " + err.Error())
	}
}

// EncodeOrganisation returns the content of an organisation's part: the same bytes for the same organisation.
func EncodeOrganisation(o *rules.Organisation) []byte {
	var b pausingBuffer
	b.must(o)
	return b.Bytes()
}

// EncodeOverride returns the content of an override's part: the same bytes for the same override.
func EncodeOverride(o rules.Override) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(o); err != nil {
		panic("BUG: an override cannot be written as JSON: " + err.Error())
	}
	return b.Bytes()
}

// decodeOverride reads what EncodeOverride wrote. A field that it does not know is an error: a newer version of the
// program wrote it, and it may well be the one that matters.
func decodeOverride(text []byte) (rules.Override, error) {
	var o rules.Override
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		return rules.Override{}, fmt.Errorf("an override was expected: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return rules.Override{}, errors.New("something follows the override")
	}
	return o, nil
}

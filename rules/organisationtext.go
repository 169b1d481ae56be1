package rules

import (
	"encoding/csv"
	"fmt"
	"io"

	"tellergate/internal/problem"
)

// ParseOrganisation reads the canonical JSON that WriteTo produces: {"branches":[{"code":…,"parent":…,"name":…},…]}.
// The error is a problem.List.
func ParseOrganisation(text []byte) (*Organisation, error) {
	text, err := Pause(nil).checkText(text)
	if err != nil {
		return nil, err
	}
	r := newJSONReader(text)
	d := newOrganisationDraft(0)
	hasBranches := false
	r.object(jsonPath{}, []string{"branches"}, func(string) {
		hasBranches = true
		r.array(jsonPath{key: "branches"}, func(i int) { r.branch(i, d) })
	})
	r.end()
	if !hasBranches && !r.broken && len(r.faults.found) == 0 {
		r.faults.add(0, "branches", &problem.Problem{
			Message: "the organisation has no branches",
			Remedy:  `write "branches": [] if it is to be empty`,
		})
	}
	if err := r.faults.err(text); err != nil {
		return nil, err
	}
	o, _, err := d.finish(text)
	return o, err
}

// branch reads element i of branches into d.
func (r *jsonReader) branch(i int, d *organisationDraft) {
	at := origin{offset: r.next(), element: i}
	var b Branch
	path := jsonPath{array: "branches", index: i}
	before := len(r.faults.found) + r.faults.more
	r.object(path, []string{"code", "parent", "name"}, func(key string) {
		inner := path
		inner.key = key
		text, _, _ := r.string(inner)
		switch key {
		case "code":
			b.Code = text
		case "parent":
			b.Parent = text
		case "name":
			b.Name = text
		}
	})
	if before == len(r.faults.found)+r.faults.more {
		d.add(b, at)
	}
}

// ParseOrganisationCSV reads lines code,parent[,name]; a header line with these words is allowed. Identical lines are
// merged and counted. The error is a problem.List with line numbers.
func ParseOrganisationCSV(text []byte) (o *Organisation, duplicates int, err error) {
	if text, err = Pause(nil).checkText(text); err != nil {
		return nil, 0, err
	}
	r := newCSVReader(text, nil)
	d := newOrganisationDraft(0)
	for first := true; ; first = false {
		record, ok := r.read()
		if !ok {
			break
		}
		if first && len(record) > 1 && r.header(record, "code", "parent", "name") {
			continue
		}
		if len(record) != 2 && len(record) != 3 {
			columns := "columns"
			if len(record) == 1 {
				columns = "column"
			}
			r.fault(&problem.Problem{
				Message: fmt.Sprintf("the line has %d %s", len(record), columns),
				Remedy:  "a line is code,parent or code,parent,name; the parent of a head office is left empty",
			})
			continue
		}
		b := Branch{Code: record[0], Parent: record[1]}
		if len(record) == 3 {
			b.Name = record[2]
		}
		d.add(b, origin{offset: r.start, element: -1})
	}
	if err := r.faults.err(text); err != nil {
		return nil, 0, err
	}
	return d.finish(text)
}

// WriteTo writes the organisation as canonical JSON: one line, branches in ascending order of code, empty fields left
// out.
func (o *Organisation) WriteTo(w io.Writer) (int64, error) {
	out := newTextWriter(w)
	out.raw(`{"branches":[`)
	for i := range o.Len() {
		if i > 0 {
			out.raw(",")
		}
		b := o.branch(i)
		out.raw(`{"code":`)
		out.text(b.Code)
		if b.Parent != "" {
			out.raw(`,"parent":`)
			out.text(b.Parent)
		}
		if b.Name != "" {
			out.raw(`,"name":`)
			out.text(b.Name)
		}
		out.raw("}")
	}
	out.raw("]}\n")
	return out.finish()
}

// WriteCSV writes a header line and one line code,parent,name for each branch in ascending order of code.
func (o *Organisation) WriteCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	record := []string{"code", "parent", "name"}
	err := out.Write(record)
	for i := 0; i < o.Len() && err == nil; i++ {
		b := o.branch(i)
		record[0], record[1], record[2] = b.Code, b.Parent, b.Name
		err = out.Write(record)
	}
	out.Flush()
	if err == nil {
		err = out.Error()
	}
	return err
}

package admin

import (
	"tellergate/admin/api"
	"tellergate/internal/content"
	"tellergate/rules"
)

// diffParts tells how the named parts differ between two states. A part that is in neither is left out.
func diffParts(pause rules.Pause, parts []string, before, after *content.State) []api.PartDiff {
	diffs := []api.PartDiff{}
	for _, part := range parts {
		kind, name, _ := content.ParsePart(part)
		d := api.PartDiff{Part: part}
		var was, is bool
		switch kind {
		case content.Rules:
			was, is = before.Text != nil, after.Text != nil
			d.Rules = unifiedDiff(printed(before), printed(after))
		case content.List:
			var a, b *rules.List
			a, was = before.Lists[name]
			b, is = after.Lists[name]
			d.List = diffLists(pause, a, b)
		case content.Organisation:
			var a, b *rules.Organisation
			a, was = before.Organisations[name]
			b, is = after.Organisations[name]
			d.Organisation = diffOrganisations(a, b)
		case content.Override:
			var a, b rules.Override
			a, was = before.Overrides[name]
			b, is = after.Overrides[name]
			d.Override = &api.OverrideDiff{}
			if was {
				d.Override.Before = &a
			}
			if is {
				d.Override.After = &b
			}
		}
		switch {
		case was && is:
			d.Change = api.PartChanged
		case was:
			d.Change = api.PartRemoved
		case is:
			d.Change = api.PartAdded
		default:
			continue
		}
		diffs = append(diffs, d)
	}
	return diffs
}

// printed returns the canonical text of the state's document, nothing if it has none.
func printed(s *content.State) string {
	if s.Text == nil {
		return ""
	}
	return string(s.Document.Print())
}

// diffLists compares two lists; nil is the empty one.
func diffLists(pause rules.Pause, a, b *rules.List) *api.ListDiff {
	d := &api.ListDiff{}
	if a != nil && b != nil && a.Attribute() != b.Attribute() {
		d.AttributeBefore = a.Attribute()
	}
	pause.Differences(a, b, func(value string, added bool) {
		if added {
			d.Added++
			d.AddedExamples = example(d.AddedExamples, value)
		} else {
			d.Removed++
			d.RemovedExamples = example(d.RemovedExamples, value)
		}
	})
	return d
}

func example(so []string, value string) []string {
	if len(so) < api.ExampleLimit {
		so = append(so, value)
	}
	return so
}

// diffOrganisations compares two trees of branches; nil is the empty one.
func diffOrganisations(a, b *rules.Organisation) *api.OrganisationDiff {
	d := &api.OrganisationDiff{}
	was, is := branches(a), branches(b)
	for i, j := 0, 0; i < len(was) || j < len(is); {
		switch {
		case j == len(is) || i < len(was) && was[i].Code < is[j].Code:
			d.Removed++
			d.RemovedExamples = example(d.RemovedExamples, was[i].Code)
			i++
		case i == len(was) || is[j].Code < was[i].Code:
			d.Added++
			d.AddedExamples = example(d.AddedExamples, is[j].Code)
			j++
		default:
			switch {
			case was[i].Parent != is[j].Parent:
				d.Moved++
				d.MovedExamples = example(d.MovedExamples, is[j].Code)
			case was[i].Name != is[j].Name:
				d.Renamed++
			}
			i++
			j++
		}
	}
	return d
}

func branches(o *rules.Organisation) []rules.Branch {
	if o == nil {
		return nil
	}
	return o.Branches()
}

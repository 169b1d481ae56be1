package admin

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"tellergate/admin/api"
	"tellergate/internal/content"
	"tellergate/internal/problem"
	"tellergate/rules"
	"tellergate/store"
)

func (s *Server) registerLists() {
	forms := map[string]*huma.Schema{
		api.JSON: schemaOf[api.List](s),
		api.CSV:  text("one value a line; a header line naming the attribute is allowed; pairs in one column or two"),
	}
	path := api.ListsPath + "/{name}"
	register(s, huma.Operation{
		OperationID: "getLists", Method: http.MethodGet, Path: api.ListsPath, Tags: []string{"lists"},
		Summary: "Every list of the head revision, without the values",
	}, s.getLists)
	register(s, answers(huma.Operation{
		OperationID: "getList", Method: http.MethodGet, Path: path, Tags: []string{"lists"},
		Summary: "The values of a list, in ascending order", Errors: []int{http.StatusNotFound},
	}, forms), s.getList)
	register(s, s.readsAhead(s.conditional(takes(huma.Operation{
		OperationID: "putList", Method: http.MethodPut, Path: path, Tags: []string{"lists"},
		Summary: "Create or replace a list",
	}, api.MaxListBytes, forms))), s.putList)
	register(s, s.conditional(takes(huma.Operation{
		OperationID: "editList", Method: http.MethodPatch, Path: path, Tags: []string{"lists"},
		Summary: "Add values to a list and remove others, as one revision",
		Errors:  []int{http.StatusNotFound},
	}, api.MaxListBytes, nil)), s.editList)
	register(s, s.conditional(huma.Operation{
		OperationID: "deleteList", Method: http.MethodDelete, Path: path, Tags: []string{"lists"},
		Summary: "Delete a list that no rule uses", Errors: []int{http.StatusNotFound},
	}), s.deleteList)
}

// Nothing is the input of a call that takes none.
type Nothing struct{}

type lists struct {
	ETag string `header:"ETag"`
	Body api.Lists
}

func (s *Server) getLists(ctx context.Context, _ *Nothing) (*lists, error) {
	head, state, err := s.head(ctx)
	if err != nil {
		return nil, err
	}
	body := api.Lists{Revision: head.Seq, Lists: []api.ListInfo{}}
	used := usesOf(state.Document)
	for _, name := range slices.Sorted(maps.Keys(state.Lists)) {
		list := state.Lists[name]
		body.Lists = append(body.Lists, api.ListInfo{
			Name: name, Attribute: list.Attribute(), Values: list.Len(), UsedBy: used.list(name),
		})
	}
	return &lists{ETag: api.ETag(head.Seq), Body: body}, nil
}

// ListInput names a list.
type ListInput struct {
	Name string `path:"name" doc:"name of the list"`
}

type getListInput struct {
	ListInput
	Accepting
}

func (s *Server) getList(ctx context.Context, in *getListInput) (*written, error) {
	form, err := in.accepted(api.JSON, api.CSV)
	if err != nil {
		return nil, err
	}
	head, state, err := s.head(ctx)
	if err != nil {
		return nil, err
	}
	list, ok := state.Lists[in.Name]
	if !ok {
		return nil, absent(head.Seq, "list", in.Name, slices.Sorted(maps.Keys(state.Lists)))
	}
	return streamed(head.Seq, form, func(w io.Writer) error {
		if form == api.CSV {
			return list.WriteCSV(w)
		}
		_, err := list.WriteTo(w)
		return err
	}), nil
}

// absent is the answer to a call that names something that is not there; it carries the ETag with which to create it.
func absent(head uint64, kind, name string, known []string) *api.Error {
	detail := fmt.Sprintf("there is no %s %q in revision %d", kind, name, head)
	switch {
	case len(known) == 0:
		detail += ", and no other"
	case len(known) <= 10:
		detail += "; there are " + strings.Join(known, ", ")
	}
	e := fault(http.StatusNotFound, detail)
	e.Revision = &head
	return e
}

type putListInput struct {
	ListInput
	Attribute string `query:"attribute" doc:"with text/csv: the attribute whose values these are"`
	RawBody   []byte `contentType:"text/csv"`
}

func (s *Server) putList(ctx context.Context, in *putListInput) (*changed, error) {
	if err := s.checkName("list", in.Name); err != nil {
		return nil, err
	}
	list, duplicates, err := s.readList(ctx, in)
	if err != nil {
		return nil, err
	}
	var text []byte
	defer func() { content.Release(text) }()
	return s.change(ctx, func(_ store.Revision, draft *content.State) (edit, error) {
		draft.Lists[in.Name] = list
		text = content.EncodeList(list, s.Pause)
		return edit{
			set:        map[string][]byte{content.ListPart(in.Name): text},
			warnings:   merged(duplicates),
			duplicates: duplicates,
			broken:     fmt.Sprintf("the rules do not compile with this list %q", in.Name),
		}, nil
	})
}

// readList reads the list that was sent and checks it against the declared attributes.
func (s *Server) readList(ctx context.Context, in *putListInput) (list *rules.List, duplicates int, err error) {
	detail := fmt.Sprintf("the list %q cannot be read", in.Name)
	if ahead := requestOf(ctx).body; ahead != nil {
		in.RawBody = ahead
	}
	if requestOf(ctx).contentType == api.CSV {
		i := s.Schema.Index(in.Attribute)
		if i < 0 {
			return nil, 0, refusedFor(detail, "attribute", fmt.Sprintf("%q is not a declared attribute", in.Attribute),
				fmt.Sprintf("say whose values the lines are: ?attribute= and one of %s", strings.Join(s.attributes(), ", ")))
		}
		var text []byte
		if text, err = decoded(ctx, in.RawBody); err == nil {
			list, duplicates, err = s.Pause.ParseListCSV(text, s.Schema.Attribute(i))
		}
	} else {
		list, err = s.Pause.ParseList(in.RawBody)
		if err == nil && in.Attribute != "" && in.Attribute != list.Attribute() {
			return nil, 0, refusedFor(detail, "attribute",
				fmt.Sprintf("the query says attribute %q and the list %q", in.Attribute, list.Attribute()), "leave one away")
		}
	}
	if err == nil {
		err = s.Pause.Check(list, s.Schema)
	}
	if err != nil {
		return nil, 0, refused(detail, err)
	}
	return list, duplicates, nil
}

type editListInput struct {
	ListInput
	Body api.ListEdit
}

func (s *Server) editList(ctx context.Context, in *editListInput) (*changed, error) {
	var text []byte
	defer func() { content.Release(text) }()
	return s.change(ctx, func(head store.Revision, draft *content.State) (edit, error) {
		list, ok := draft.Lists[in.Name]
		if !ok {
			return edit{}, absent(head.Seq, "list", in.Name, slices.Sorted(maps.Keys(draft.Lists)))
		}
		add, remove, problems := s.readEdit(list.Attribute(), &in.Body)
		if len(problems) > 0 {
			return edit{}, refused(fmt.Sprintf("the list %q cannot be changed so", in.Name), problems)
		}
		edited, added, removed := s.Pause.Edit(list, add, remove)
		draft.Lists[in.Name] = edited
		text = content.EncodeList(edited, s.Pause)
		return edit{
			set:        map[string][]byte{content.ListPart(in.Name): text},
			duplicates: len(in.Body.Add) + len(in.Body.Remove) - add.Len() - remove.Len(),
			idle:       add.Len() + remove.Len() - added - removed,
			broken:     fmt.Sprintf("the rules do not compile with this list %q", in.Name),
		}, nil
	})
}

// readEdit cleans the values of an edit. One that is to come and to go is a problem.
func (s *Server) readEdit(attribute string, sent *api.ListEdit) (add, remove *rules.List, problems problem.List) {
	read := func(what string, values []string) *rules.List {
		clean := make([]string, 0, len(values))
		for i, value := range values {
			value, bad := s.Schema.Clean(attribute, value)
			switch {
			case bad == nil:
				clean = append(clean, value)
			case len(problems) < 100:
				bad.Path = fmt.Sprintf("%s[%d]", what, i)
				problems = append(problems, *bad)
			}
		}
		return rules.NewList(attribute, clean)
	}
	add, remove = read("add", sent.Add), read("remove", sent.Remove)
	for value := range add.All() {
		if remove.Contains(value) && len(problems) < 100 {
			problems = append(problems, problem.Problem{Path: "remove",
				Message: fmt.Sprintf("value %q is to be added and removed", value), Remedy: "leave it out of one of them"})
		}
	}
	return add, remove, problems
}

func (s *Server) attributes() []string {
	names := make([]string, s.Schema.Len())
	for i := range names {
		names[i] = s.Schema.Attribute(i).Name
	}
	return names
}

// merged is the warning about lines that occurred more than once.
func merged(duplicates int) problem.List {
	switch duplicates {
	case 0:
		return nil
	case 1:
		return problem.List{{Message: "1 line occurs more than once and was merged"}}
	}
	return problem.List{{Message: fmt.Sprintf("%d lines occur more than once and were merged", duplicates)}}
}

// checkName refuses names of lists and legal entities that could not be written in a rule or a path.
func (s *Server) checkName(kind, name string) error {
	clean, bad := rules.CleanValue(name)
	switch {
	case bad != nil:
		return refusedFor(fmt.Sprintf("the name of the %s is refused", kind), "name", bad.Message, bad.Remedy)
	case clean != name:
		return refusedFor(fmt.Sprintf("the name of the %s is refused", kind), "name",
			fmt.Sprintf("%q has white space around it", name), fmt.Sprintf("write %q", clean))
	case strings.Contains(name, "/"):
		return refusedFor(fmt.Sprintf("the name of the %s is refused", kind), "name",
			fmt.Sprintf("%q holds a slash", name), "leave it away")
	}
	return nil
}

func (s *Server) deleteList(ctx context.Context, in *ListInput) (*changed, error) {
	return s.change(ctx, func(head store.Revision, draft *content.State) (edit, error) {
		if _, ok := draft.Lists[in.Name]; !ok {
			return edit{}, absent(head.Seq, "list", in.Name, slices.Sorted(maps.Keys(draft.Lists)))
		}
		delete(draft.Lists, in.Name)
		return edit{
			remove: []string{content.ListPart(in.Name)},
			broken: fmt.Sprintf("the list %q is still used by %s", in.Name,
				strings.Join(usesOf(draft.Document).list(in.Name), ", ")),
			remedy: "take it out of the rule first; an empty list withdraws everybody too",
		}, nil
	})
}

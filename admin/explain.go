package admin

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"tellergate/admin/api"
	"tellergate/internal/problem"
	"tellergate/rules"
	"tellergate/session"
)

func (s *Server) registerExplain() {
	register(s, takes(huma.Operation{
		OperationID: "explain", Method: http.MethodPost, Path: api.ExplainPath, Tags: []string{"rules"},
		Summary: "The decision on an identity and a request, and the whole reason",
		Errors:  []int{http.StatusNotFound, http.StatusServiceUnavailable},
	}, api.MaxDocumentBytes+api.MaxRequestBytes, nil), s.explain)
}

type explainInput struct {
	Body api.ExplainRequest
}

type explained struct {
	Body api.ExplainResult
}

// A generation is what an explanation is computed from: what runs, or a draft.
type generation struct {
	revision uint64
	rules    *rules.RuleSet
	warnings problem.List
	draft    bool
}

func (s *Server) explain(ctx context.Context, in *explainInput) (*explained, error) {
	g, err := s.generation(ctx, in.Body.Document)
	if err != nil {
		return nil, err
	}
	query, problems := s.query(&in.Body)
	if len(problems) > 0 {
		return nil, invalid("the request cannot be explained", problems)
	}
	service, err := serviceFor(g.rules, in.Body.Service, query)
	if err != nil {
		return nil, err
	}
	standing, pin := s.standing(service, query, &in.Body)
	result := api.ExplainResult{
		Explanation: service.Explain(query, standing, availability{s, g}),
		Revision:    g.revision,
		Draft:       g.draft,
		Attributes:  make(map[string]string),
		Pin:         pin,
		Endpoints:   []api.Endpoint{},
		Warnings:    g.warnings,
	}
	for i, value := range query.Attributes {
		if value != "" {
			result.Attributes[s.Schema.Attribute(i).Name] = value
		}
	}
	if result.Version != "" {
		result.Endpoints = append(result.Endpoints, s.Pods.Endpoints(result.Service, result.Version)...)
	}
	return &explained{Body: result}, nil
}

// generation returns what runs, or, where document is not empty, that draft beside the head's lists, organisations and
// overrides.
func (s *Server) generation(ctx context.Context, document string) (generation, error) {
	if document == "" {
		current := s.Live.Current()
		if current == nil {
			return generation{}, fault(http.StatusServiceUnavailable, "this replica runs no revision yet; /readyz says why")
		}
		return generation{revision: current.Revision.Seq, rules: current.Rules}, nil
	}
	head, state, err := s.head(ctx)
	if err != nil {
		return generation{}, err
	}
	draft := state.Clone()
	if draft.Document, err = rules.Parse([]byte(document)); err != nil {
		return generation{}, invalid("the draft cannot be read", err)
	}
	compiled, err := draft.Compile(s.Schema)
	if err != nil {
		return generation{}, invalid("the draft does not compile", err)
	}
	return generation{revision: head.Seq, rules: compiled, warnings: compiled.Warnings(), draft: true}, nil
}

// query turns the request into what a decision looks at.
func (s *Server) query(r *api.ExplainRequest) (*rules.Query, problem.List) {
	var problems problem.List
	q := &rules.Query{
		Frontend:   r.Frontend,
		Host:       hostOf(r.Host),
		Method:     strings.ToUpper(r.Method),
		Source:     netip.AddrFrom4([4]byte{127, 0, 0, 1}),
		Attributes: make([]string, s.Schema.Len()),
		Headers:    headers(r.Headers),
	}
	if q.Method == "" {
		q.Method = http.MethodGet
	}
	var err error
	if q.Path, err = normalised(r.Path); err != nil {
		problems = append(problems, problem.Problem{Path: "path", Message: err.Error(),
			Remedy: "write it as in a request: /teller/query"})
	}
	if r.Source != "" {
		addr, err := netip.ParseAddr(r.Source)
		if err != nil {
			problems = append(problems, problem.Problem{Path: "source",
				Message: fmt.Sprintf("%q is not an address", r.Source), Remedy: "write an IPv4 or IPv6 address without a port"})
		}
		q.Source = addr.Unmap()
	}
	return q, append(problems, s.identify(q, r.Attributes)...)
}

// identify fills in the attributes of q: what was given, the settings' defaults for the rest, pairs put together.
func (s *Server) identify(q *rules.Query, given map[string]string) (problems problem.List) {
	values := make(map[string]string, len(given))
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if strings.TrimSpace(given[name]) == "" {
			continue
		}
		value, bad := rules.CleanValue(given[name])
		switch {
		case s.Schema.Index(name) < 0:
			problems = append(problems, problem.Problem{Path: "attributes." + name,
				Message: fmt.Sprintf("%q is not a declared attribute", name),
				Remedy:  "use one of " + strings.Join(s.attributes(), ", ")})
		case bad != nil:
			bad.Path = "attributes." + name
			problems = append(problems, *bad)
		default:
			values[name] = value
		}
	}
	for name, value := range s.Defaults {
		if _, ok := values[name]; !ok {
			values[name] = value
		}
	}
	for i := range q.Attributes {
		a := s.Schema.Attribute(i)
		value, outer := values[a.Name], values[a.Within]
		switch {
		case value == "" || a.Within == "" || strings.Contains(value, "/"):
			q.Attributes[i] = value
		case outer != "":
			q.Attributes[i] = outer + "/" + value
		default:
			problems = append(problems, problem.Problem{Path: "attributes." + a.Name,
				Message: fmt.Sprintf("%s %q is unique only within %s, which is missing", a.Name, value, a.Within),
				Remedy:  fmt.Sprintf("write the pair, for example 9001/%s, or give %s too", value, a.Within)})
		}
	}
	return problems
}

// hostOf returns a host name as decisions see it: lower case, without a port.
func hostOf(host string) string {
	if u, err := url.Parse("http://" + host); err == nil && u.Host == host {
		host = u.Hostname()
	}
	return strings.ToLower(host)
}

// normalised returns a request's path as decisions see it: decoded, dot elements resolved, without the query.
func normalised(target string) (string, error) {
	raw, _, _ := strings.Cut(target, "?")
	if raw == "" {
		return "/", nil
	}
	if raw[0] != '/' {
		return "", fmt.Errorf("path %q does not begin with a slash", raw)
	}
	decoded, err := url.PathUnescape(raw)
	if err != nil {
		return "", fmt.Errorf("path %q cannot be decoded: %w", raw, err)
	}
	clean := path.Clean(decoded)
	// A last element that is empty, "." or ".." names a folder.
	switch last := decoded[strings.LastIndexByte(decoded, '/')+1:]; last {
	case "", ".", "..":
		if clean != "/" {
			clean += "/"
		}
	}
	return clean, nil
}

// headers are the request headers of an explanation, by any spelling of their names.
type headers map[string]string

func (h headers) Get(name string) (string, bool) {
	for key, value := range h {
		if strings.EqualFold(key, name) {
			return value, true
		}
	}
	return "", false
}

// serviceFor returns the named service, or the one that the query belongs to.
func serviceFor(set *rules.RuleSet, name string, q *rules.Query) (*rules.CompiledService, error) {
	if name == "" {
		if service := set.Match(q); service != nil {
			return service, nil
		}
		return nil, fault(http.StatusNotFound, fmt.Sprintf("no service matches frontend %q, host %q and path %q: the client "+
			"would be answered 404 no_service", q.Frontend, q.Host, q.Path))
	}
	known := make([]string, set.Len())
	for i := range known {
		if set.Service(i).Name() == name {
			return set.Service(i), nil
		}
		known[i] = set.Service(i).Name()
	}
	return nil, noService(name, known)
}

func noService(name string, known []string) *api.Error {
	detail := fmt.Sprintf("there is no service %q", name)
	if len(known) > 0 {
		detail += "; there are " + strings.Join(known, ", ")
	}
	return fault(http.StatusNotFound, detail)
}

// standing looks up what is known of the request's session, without touching it.
func (s *Server) standing(service *rules.CompiledService, q *rules.Query, r *api.ExplainRequest) (rules.Standing,
	*api.Pin) {
	standing := rules.Standing{Forced: r.Forced}
	how := service.Sessions()
	if how == nil {
		return standing, nil
	}
	var keys []session.Key
	for _, attribute := range how.Key {
		if value := q.Attributes[attribute]; value != "" {
			keys = append(keys, session.Key{
				Service: service.Name(), Attribute: s.Schema.Attribute(attribute).Name, Value: value,
			})
		}
	}
	standing.Keyed = len(keys) > 0
	if !standing.Keyed || r.IgnorePins {
		return standing, nil
	}
	pins := make([]session.Pin, len(keys))
	s.Pins.Peek(keys, pins, nil)
	subject := ""
	if how.Subject >= 0 {
		subject = q.Attributes[how.Subject]
	}
	i := session.Choose(pins, subject)
	if i < 0 {
		return standing, nil
	}
	standing.Pinned = pins[i].Version
	return standing, &api.Pin{
		Version: pins[i].Version, Endpoint: pins[i].Endpoint, Key: keys[i].Attribute, Subject: pins[i].Subject,
		Revision: pins[i].Revision,
	}
}

// availability tells whether a version could be sent a request, by its name: the generation explained need not be the
// one whose pods are bound.
type availability struct {
	server     *Server
	generation generation
}

func (a availability) Usable(service, version int) bool {
	of := a.generation.rules.Service(service)
	v := of.Version(version)
	endpoints := a.server.Pods.Endpoints(of.Name(), v.Name())
	if a.generation.draft && !slices.EqualFunc(endpoints, v.Static(), sameAddress) {
		return true
	}
	return slices.ContainsFunc(endpoints, isUsable)
}

func sameAddress(e api.Endpoint, addr netip.AddrPort) bool { return e.Address == addr }

func isUsable(e api.Endpoint) bool { return e.Usable }

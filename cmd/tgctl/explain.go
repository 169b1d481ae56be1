package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"tellergate/admin/api"
	"tellergate/config"
	"tellergate/rules"
)

// A question is what explain is asked on the command line.
type question struct {
	request    api.ExplainRequest
	attributes []string // name=value
	headers    []string // Name=value or Name: value
	file       string
	draft      string
	against    offline
	ascii      bool
}

// attributeFlags are the attributes that have a flag of their own, by flag.
var attributeFlags = []struct{ flag, attribute, about string }{
	{"branch", "branch", "branch (网点), as ENTITY/BRANCH or beside its legal entity"},
	{"teller", "teller", "teller (柜员), as ENTITY/TELLER or beside its legal entity"},
	{"legal-entity", "legalEntity", "legal entity (法人); not given, the default of the settings"},
	{"session", "session", "session handle, for example the value of JSESSIONID"},
}

// explain is the command that tells which version somebody gets, and why.
func (t *tool) explain() *cobra.Command {
	var q question
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Tell which version a request gets, and why",
		Long: `Asks the server which version somebody would get, without sending a request, and prints the decision and its
reason: every step, and every rule with what holds and what does not. Ends with 1 if the request would be refused.

With --draft the server explains a document that is not live, against its own lists and organisations. With --file
nothing is asked: there are no pins and no overrides then, and every version counts as having a pod.

` + offlineHelp,
		Example: `  tgctl explain --branch 3201 --teller 0001 --legal-entity 9001
  tgctl explain --file rules.yaml --list pilot-tellers=tellers.csv --teller 9001/0001 --path /teller/eod`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return t.answer(cmd, &q) },
	}
	flags := cmd.Flags()
	for _, a := range attributeFlags {
		flags.String(a.flag, "", a.about)
	}
	flags.StringArrayVar(&q.attributes, "attr", nil, "any other attribute, as `NAME=VALUE`; repeatable")
	flags.StringVar(&q.request.Service, "service", "", "decide for this service, whatever host and path are")
	flags.StringVar(&q.request.Frontend, "frontend", "", "frontend that the request comes in at")
	flags.StringVar(&q.request.Host, "host", "", "host name of the request")
	flags.StringVar(&q.request.Path, "path", "/", "path of the request")
	flags.StringVar(&q.request.Method, "method", "GET", "method of the request")
	flags.StringArrayVar(&q.headers, "header", nil, "header of the request, as `'NAME: VALUE'`; repeatable")
	flags.StringVar(&q.request.Source, "source", "", "address of the client")
	flags.StringVar(&q.request.Forced, "forced", "", "version that a tester asks for")
	flags.BoolVar(&q.request.IgnorePins, "ignore-pins", false, "explain as for a new session")
	flags.StringVar(&q.draft, "draft", "", "let the server explain the document in `FILE` instead of the live rules")
	flags.StringVar(&q.file, "file", "", "explain the document in `FILE` without a server")
	flags.BoolVar(&q.ascii, "ascii", false, "plain + and - instead of ✓ and ✗; the default where LANG is not UTF-8")
	q.against.flags(cmd)
	cmd.MarkFlagsMutuallyExclusive("file", "draft")
	return cmd
}

// answer gathers the question, asks it here or there and prints the answer.
func (t *tool) answer(cmd *cobra.Command, q *question) error {
	if q.file == "" && q.against.given() {
		return usagef("--settings, --list and --organisation go with --file, which asks no server; leave them out, or give " +
			"the document with --file FILE")
	}
	if err := q.gather(cmd); err != nil {
		return err
	}
	var result *api.ExplainResult
	var err error
	if q.file != "" {
		result, err = t.explainHere(q)
	} else {
		result, err = t.explainThere(cmd.Context(), q)
	}
	if err != nil {
		return err
	}
	marks := marksFor(q.ascii || !t.speaksUTF8())
	err = t.print(result, func(w io.Writer) { writeExplanation(w, result, marks) })
	if err != nil {
		return err
	}
	t.warn(q.file+q.draft, result.Warnings)
	if result.Refusal != "" {
		return no()
	}
	return nil
}

// gather puts flags together into the request.
func (q *question) gather(cmd *cobra.Command) error {
	q.request.Attributes = make(map[string]string)
	for _, a := range attributeFlags {
		if value := cmd.Flag(a.flag).Value.String(); value != "" {
			q.request.Attributes[a.attribute] = value
		}
	}
	for _, given := range q.attributes {
		name, value, ok := strings.Cut(given, "=")
		if !ok || name == "" {
			return usagef("--attr %s is not NAME=VALUE", given)
		}
		if _, twice := q.request.Attributes[name]; twice {
			return usagef("attribute %s is given twice; leave one out", name)
		}
		q.request.Attributes[name] = value
	}
	return q.gatherHeaders()
}

// gatherHeaders reads the --header flags.
func (q *question) gatherHeaders() error {
	q.request.Headers = make(map[string]string)
	for _, given := range q.headers {
		at := strings.IndexAny(given, ":=")
		if at <= 0 {
			return usagef("--header %s is not 'NAME: VALUE'", given)
		}
		q.request.Headers[given[:at]] = strings.TrimSpace(given[at+1:])
	}
	return nil
}

// speaksUTF8 tells whether the locale says that the terminal takes UTF-8.
func (t *tool) speaksUTF8() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale := t.env(name); locale != "" {
			return strings.Contains(strings.ReplaceAll(strings.ToLower(locale), "-", ""), "utf8")
		}
	}
	return false
}

// explainThere asks the server.
func (t *tool) explainThere(ctx context.Context, q *question) (*api.ExplainResult, error) {
	if q.draft != "" {
		text, err := t.readFile(q.draft)
		if err != nil {
			return nil, err
		}
		q.request.Document = string(text)
	}
	result := new(api.ExplainResult)
	_, err := t.client.ask(ctx, call{method: "POST", path: api.ExplainPath}.with(q.request), result)
	if q.draft != "" {
		err = refusedFile(q.draft, q.draft, err)
	}
	return result, err
}

// explainHere decides without a server.
func (t *tool) explainHere(q *question) (*api.ExplainResult, error) {
	text, err := t.readFile(q.file)
	if err != nil {
		return nil, err
	}
	settings, in, err := q.against.load(t)
	if err != nil {
		return nil, err
	}
	_, set, err := compile(text, in)
	if err != nil {
		return nil, inFile(q.file, err)
	}
	query, err := q.query(settings, in.Schema)
	if err != nil {
		return nil, err
	}
	service := set.Match(query)
	if q.request.Service != "" {
		service = serviceNamed(set, q.request.Service)
	}
	if service == nil {
		return nil, &failure{exitNo, q.nowhere(set)}
	}
	standing := rules.Standing{Forced: q.request.Forced}
	if sessions := service.Sessions(); sessions != nil {
		for _, key := range sessions.Key {
			standing.Keyed = standing.Keyed || query.Attributes[key] != ""
		}
	}
	result := &api.ExplainResult{
		Explanation: service.Explain(query, standing, everythingUsable{}),
		Draft:       true,
		Attributes:  make(map[string]string),
		Warnings:    set.Warnings(),
	}
	for i, value := range query.Attributes {
		if value != "" {
			result.Attributes[in.Schema.Attribute(i).Name] = value
		}
	}
	return result, nil
}

// everythingUsable is the availability of versions where nobody knows: as if each had a pod.
type everythingUsable struct{}

func (everythingUsable) Usable(int, int) bool { return true }

func serviceNamed(set *rules.RuleSet, name string) *rules.CompiledService {
	for i := range set.Len() {
		if s := set.Service(i); s.Name() == name {
			return s
		}
	}
	return nil
}

// nowhere says why there is no service to explain.
func (q *question) nowhere(set *rules.RuleSet) error {
	names := make([]string, 0, set.Len())
	for i := range set.Len() {
		names = append(names, set.Service(i).Name())
	}
	have := "the document has no services"
	if len(names) > 0 {
		have = "the document has " + series(names, "and")
	}
	if q.request.Service != "" {
		return fmt.Errorf("there is no service %q; %s", q.request.Service, have)
	}
	return fmt.Errorf("no service matches frontend %q, host %q and path %q: the client would get 404 no_service; %s",
		q.request.Frontend, q.request.Host, q.request.Path, have)
}

// query is the request as rules see it.
func (q *question) query(settings *config.Settings, schema *rules.Schema) (*rules.Query, error) {
	attributes, err := identity(settings, schema, q.request.Attributes)
	if err != nil {
		return nil, err
	}
	query := &rules.Query{
		Frontend:   q.request.Frontend,
		Host:       bareHost(q.request.Host),
		Method:     strings.ToUpper(q.request.Method),
		Source:     netip.AddrFrom4([4]byte{127, 0, 0, 1}),
		Attributes: attributes,
		Headers:    headers(q.request.Headers),
	}
	if query.Path, err = decodedPath(q.request.Path); err != nil {
		return nil, err
	}
	if q.request.Source != "" {
		if query.Source, err = netip.ParseAddr(q.request.Source); err != nil {
			return nil, usagef("--source %s is not an IP address", q.request.Source)
		}
		query.Source = query.Source.Unmap()
	}
	return query, nil
}

// identity puts the given attributes in the order of the schema, fills in the defaults of the settings and puts pairs
// together.
func identity(settings *config.Settings, schema *rules.Schema, given map[string]string) ([]string, error) {
	values := make([]string, schema.Len())
	for name, raw := range given {
		i := schema.Index(name)
		if i < 0 {
			return nil, usagef("attribute %q is not declared; declared are %s. Give the settings that declare it with "+
				"--settings", name, series(attributeNames(schema), "and"))
		}
		value, fault := rules.CleanValue(raw)
		if fault != nil {
			return nil, usagef("%s: %s; %s", name, fault.Message, fault.Remedy)
		}
		values[i] = value
	}
	for i := range values {
		if values[i] == "" {
			values[i] = settings.Identity[i].Default
		}
	}
	for i, value := range values {
		within := schema.Attribute(i).Within
		if within == "" || value == "" || strings.Contains(value, "/") {
			continue
		}
		outer := values[schema.Index(within)]
		if outer == "" {
			return nil, usagef("%s %s is unique only within %s; give the pair %s/%s, or the %s too", schema.Attribute(i).Name,
				value, within, strings.ToUpper(within), value, within)
		}
		values[i] = outer + "/" + value
	}
	return values, nil
}

// bareHost is a host in lower case without its port.
func bareHost(host string) string {
	host = strings.ToLower(host)
	if strings.HasPrefix(host, "[") {
		inner, _, _ := strings.Cut(host[1:], "]")
		return inner
	}
	if name, _, ok := strings.Cut(host, ":"); ok && strings.Count(host, ":") == 1 {
		return name
	}
	return host
}

// decodedPath is a request's path as rules see it: decoded, dot elements resolved, without the query.
func decodedPath(given string) (string, error) {
	raw, _, _ := strings.Cut(given, "?")
	if !strings.HasPrefix(raw, "/") {
		return "", usagef("--path %s does not begin with a slash; write it as in a request: /teller/query", given)
	}
	decoded, err := url.PathUnescape(raw)
	if err != nil {
		return "", usagef("--path %s cannot be decoded: %w; write a percent sign as %%25", given, err)
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

// headers are request headers given on the command line.
type headers map[string]string

func (h headers) Get(name string) (string, bool) {
	for given, value := range h {
		if strings.EqualFold(given, name) {
			return value, true
		}
	}
	return "", false
}

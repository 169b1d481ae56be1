package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"tellergate/admin/api"
	"tellergate/internal/build"
)

const defaultServer = "http://127.0.0.1:9180"

// A client makes calls of the admin API.
type client struct {
	base    string // without a slash at the end
	timeout time.Duration
	http    *http.Client
}

// newClient returns a client of the server at address; an empty one is the default. Nothing is connected yet.
func newClient(address string, timeout time.Duration) (*client, error) {
	if address == "" {
		address = defaultServer
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" {
		return nil, usagef("%q is not the address of an admin API; give one such as %s with --server or TGCTL_SERVER",
			address, defaultServer)
	}
	return &client{
		base:    u.Scheme + "://" + u.Host,
		timeout: timeout,
		http:    &http.Client{Timeout: timeout},
	}, nil
}

// A call is one request. The zero value of every field but path is fine.
type call struct {
	method      string // GET if empty
	path        string // with its query
	accept      string // application/json if empty
	body        io.Reader
	size        int64 // of body, -1 if it is not known
	contentType string
	ifMatch     string
	change      change
	also        int // a status beside the 2xx that is an answer and no error
}

// A change says who changes something and why.
type change struct{ author, reason string }

// do sends the call and returns the answer, whose body the caller closes. The error is a failure with its exit code.
func (c *client) do(ctx context.Context, what call) (*http.Response, error) {
	if what.method == "" {
		what.method = http.MethodGet
	}
	request, err := http.NewRequestWithContext(ctx, what.method, c.base+what.path, what.body)
	if err != nil {
		return nil, err
	}
	if what.size != 0 {
		request.ContentLength = what.size
	}
	set := func(header, value string) {
		if value != "" {
			request.Header.Set(header, value)
		}
	}
	set("Accept", what.accept)
	if what.accept == "" {
		set("Accept", api.JSON)
	}
	set("User-Agent", "tgctl/"+build.Version)
	set("Content-Type", what.contentType)
	set(api.IfMatchHeader, what.ifMatch)
	set(api.AuthorHeader, what.change.author)
	set(api.ReasonHeader, url.PathEscape(what.change.reason))
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(what.method, err)
	}
	if answer.StatusCode/100 == 2 || answer.StatusCode == what.also {
		return answer, nil
	}
	defer answer.Body.Close()
	return nil, c.refused(answer)
}

// unreachable says that no answer came.
func (c *client) unreachable(method string, err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		text := fmt.Sprintf("the admin API at %s did not answer within %s; allow more with --timeout", c.base, c.timeout)
		if method != http.MethodGet {
			text += ", but look first whether the change was made (tgctl history)"
		}
		return &failure{exitUnreachable, errors.New(text)}
	}
	return &failure{exitUnreachable, fmt.Errorf(
		"cannot reach the admin API at %s: %w; start tellergate there, or name another with --server or TGCTL_SERVER",
		c.base, err)}
}

// refused turns an answer that is not a success into a failure.
func (c *client) refused(answer *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(answer.Body, 4<<20))
	if err != nil {
		return c.unreachable(answer.Request.Method, err)
	}
	code := exitRefused
	if answer.StatusCode == http.StatusPreconditionFailed || answer.StatusCode == http.StatusPreconditionRequired {
		code = exitConflict
	}
	refusal := new(api.Error)
	media, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if media == api.ProblemJSON && json.Unmarshal(text, refusal) == nil && refusal.Detail != "" {
		if refusal.Code == api.CodeCounting || refusal.Code == api.CodeSessionsUnknown {
			code = exitUnknown
		}
		return &failure{code, refusal}
	}
	return &failure{code, fmt.Errorf("the server at %s answered %s to %s %s, not as an admin API of tellergate does; "+
		"correct --server if it is something else", c.base, answer.Status, answer.Request.Method,
		answer.Request.URL.Path)}
}

// ask sends the call and decodes its JSON answer into value.
func (c *client) ask(ctx context.Context, what call, value any) (*http.Response, error) {
	answer, err := c.do(ctx, what)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, c.unreachable(answer.Request.Method, err)
	}
	if err := json.Unmarshal(raw, value); err != nil {
		return nil, &failure{exitRefused, fmt.Errorf("the answer of %s to %s %s is not what an admin API of tellergate "+
			"sends: %w; correct --server if it is something else, or use the tgctl of the server's version", c.base,
			answer.Request.Method, answer.Request.URL.Path, err)}
	}
	return answer, nil
}

// with returns the call with value as its JSON body.
func (what call) with(value any) call {
	raw, err := json.Marshal(value)
	if err != nil {
		panic("BUG: a request body that is not JSON: " + err.Error())
	}
	what.body, what.contentType, what.size = bytes.NewReader(raw), api.JSON, int64(len(raw))
	return what
}

// head returns the entity tag of the head revision.
func (c *client) head(ctx context.Context) (string, error) {
	var revisions api.Revisions
	_, err := c.ask(ctx, call{path: api.RevisionsPath + "?limit=1"}, &revisions)
	return api.ETag(revisions.Head), err
}

package admin_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/encoding/simplifiedchinese"

	"tellergate/admin/api"
)

func TestEditList(t *testing.T) {
	t.Parallel()
	r := newBank(t)
	path := api.ListPath("pilot-tellers")
	before := decode[api.List](t, r.do("GET", path, ""))
	first := before.Values[0]
	got := r.do("PATCH", path, `{"add":["9001/5009","9001/5009"," 9001/5008","`+first+`"],"remove":["9001/7777"]}`,
		"Content-Type", api.JSON, "If-Match", r.etag())
	require.Equal(t, http.StatusOK, got.status, "%s", got.body)
	result := decode[api.WriteResult](t, got)
	require.True(t, result.Changed)
	require.Equal(t, 1, result.Duplicates)
	require.Equal(t, 2, result.Idle)
	require.Equal(t, &api.ListDiff{Added: 2, AddedExamples: []string{"9001/5008", "9001/5009"}}, result.Changes[0].List)
	require.Len(t, decode[api.List](t, r.do("GET", path, "")).Values, len(before.Values)+2)

	got = r.do("PATCH", path, `{"remove":["9001/5008","9001/5009"]}`, "Content-Type", api.JSON, "If-Match", r.etag())
	require.Equal(t, http.StatusOK, got.status, "%s", got.body)
	require.Equal(t, before.Values, decode[api.List](t, r.do("GET", path, "")).Values)
	got = r.do("PATCH", path, `{"remove":["9001/5008"]}`, "Content-Type", api.JSON, "If-Match", r.etag())
	require.False(t, decode[api.WriteResult](t, got).Changed)

	for _, c := range []struct {
		path, body, ifMatch string
		status              int
		says                string
	}{
		{path, `{"add":["9001/1"]}`, `"1"`, http.StatusPreconditionFailed, "somebody was faster"},
		{path, `{"add":["9001/1"]}`, "", http.StatusPreconditionRequired, "If-Match is missing"},
		{path, `{"add":["0001"]}`, r.etag(), http.StatusUnprocessableEntity, `"path":"add[0]"`},
		{path, `{"add":["9001/1"],"remove":["9001/1"]}`, r.etag(), http.StatusUnprocessableEntity, "is to be added and removed"},
		{api.ListPath("none"), `{"add":["9001/1"]}`, r.etag(), http.StatusNotFound, "there is no list"},
	} {
		headers := []string{"Content-Type", api.JSON}
		if c.ifMatch != "" {
			headers = append(headers, "If-Match", c.ifMatch)
		}
		got := r.do("PATCH", c.path, c.body, headers...)
		require.Equal(t, c.status, got.status, "%s", got.body)
		require.Contains(t, string(got.body), c.says)
	}
}

func TestGB18030(t *testing.T) {
	t.Parallel()
	r := newBank(t)
	const branches = "code,parent,name\n1,,总行\n2,1,江苏分行\n2,1,江苏分行\n"
	encoded, err := simplifiedchinese.GB18030.NewEncoder().String(branches)
	require.NoError(t, err)
	result := r.put(api.OrganisationPath("9003"), api.CSV+"; charset=GB18030", encoded)
	require.Equal(t, 1, result.Duplicates)
	got := r.do("GET", api.OrganisationPath("9003"), "", "Accept", api.CSV)
	require.Equal(t, "code,parent,name\n1,,总行\n2,1,江苏分行\n", string(got.body))
	for charset, status := range map[string]int{"utf-8": http.StatusUnprocessableEntity, "big5": http.StatusUnsupportedMediaType} {
		got := r.do("PUT", api.OrganisationPath("9003"), encoded, "Content-Type", api.CSV+"; charset="+charset, "If-Match", r.etag())
		require.Equal(t, status, got.status, "%s", got.body)
	}
	got = r.do("PUT", api.RulesPath, "services: []", "Content-Type", api.YAML+"; charset=gbk", "If-Match", r.etag())
	require.Equal(t, http.StatusUnsupportedMediaType, got.status)
}

func TestMentions(t *testing.T) {
	t.Parallel()
	r := newBank(t)
	ask := func(name, value string) api.Mentions {
		return decode[api.Mentions](t, r.do("GET", api.MentionsPath+"?"+url.Values{name: {value}}.Encode(), ""))
	}
	list := ask("list", "pilot-tellers")
	require.Len(t, list.Mentions, 1)
	require.Equal(t, "teller is in list pilot-tellers", list.Mentions[0].Test)
	values := decode[api.List](t, r.do("GET", api.ListPath("pilot-tellers"), "")).Values
	teller := ask("teller", values[0])
	require.Equal(t, []string{"pilot-tellers"}, teller.Lists)
	require.Equal(t, "teller "+values[0]+" is in list pilot-tellers", teller.Mentions[0].Test)
	require.Empty(t, ask("teller", "9009/1").Mentions)
	for query, status := range map[string]int{
		"": http.StatusUnprocessableEntity, "?branch=9001/1&list=x": http.StatusUnprocessableEntity,
		"?branch=1": http.StatusUnprocessableEntity, "?list=none": http.StatusNotFound,
	} {
		require.Equal(t, status, r.do("GET", api.MentionsPath+query, "").status, query)
	}
}

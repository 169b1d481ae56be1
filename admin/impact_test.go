package admin_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/admin/api"
	"tellergate/internal/seen"
)

func TestImpact(t *testing.T) {
	t.Parallel()
	r := newBank(t)
	text := string(r.do("GET", api.RulesPath, "", "Accept", api.YAML).body)
	ask := func(request api.ImpactRequest) (api.ImpactResult, int, string) {
		raw, err := json.Marshal(request)
		require.NoError(t, err)
		got := r.do("POST", api.ImpactPath, string(raw), "Content-Type", api.JSON)
		if got.status != http.StatusOK {
			return api.ImpactResult{}, got.status, string(got.body)
		}
		return decode[api.ImpactResult](t, got), got.status, ""
	}
	const people = "9001/3201,9001/0001\n9001/9999,9001/0002\n"
	same, _, _ := ask(api.ImpactRequest{Population: people})
	require.Equal(t, 2, same.Identities)
	require.Zero(t, same.Services[0].Changed)
	require.Equal(t, same.Before, same.After)

	draft := strings.Replace(text, "default: v1", "default: v2", 1)
	require.NotEqual(t, text, draft)
	changed, _, _ := ask(api.ImpactRequest{Population: "teller\n9001/7777\n9001/7778\n", After: api.ImpactSide{Document: draft}})
	require.Equal(t, 2, changed.Services[0].Changed)

	nobody, _, _ := ask(api.ImpactRequest{Seen: true, After: api.ImpactSide{Document: draft}})
	require.Zero(t, nobody.Identities)
	require.Equal(t, &api.SeenPopulation{Replica: "here", Capacity: seen.Capacity}, nobody.Seen)

	one, gone := uint64(1), uint64(99)
	old, _, _ := ask(api.ImpactRequest{Before: api.ImpactSide{Revision: &one}, Population: people})
	require.Equal(t, uint64(1), old.Before)
	for _, c := range []struct {
		request api.ImpactRequest
		status  int
		says    string
	}{
		{api.ImpactRequest{After: api.ImpactSide{Revision: &gone}}, 404, "there is no revision 99"},
		{api.ImpactRequest{After: api.ImpactSide{Revision: &one, Document: draft}}, 422, "both a revision and a document"},
		{api.ImpactRequest{After: api.ImpactSide{Document: "services: 1"}}, 422, "the draft cannot be read"},
		{api.ImpactRequest{Population: "1,2,3,4\n"}, 422, "the line has 4 columns"},
		{api.ImpactRequest{Population: "1,2,9001\n", Seen: true}, 422, "leave one away"},
		{api.ImpactRequest{Service: "none"}, 422, "there is no service"},
	} {
		_, status, body := ask(c.request)
		require.Equal(t, c.status, status, body)
		require.Contains(t, body, c.says)
	}
}

// TestImpactOfAMillion sends a population over a real connection.
func TestImpactOfAMillion(t *testing.T) {
	n := 1_000_000
	if raceDetector {
		n = 50_000
	}
	r := newBank(t)
	base := r.listen()
	var people bytes.Buffer
	for i := range n {
		fmt.Fprintf(&people, "%06d,%08d,9001\n", i%50_000, i)
	}
	raw, err := json.Marshal(api.ImpactRequest{Population: people.String()})
	require.NoError(t, err)
	begun := time.Now()
	answer, err := http.Post(base+api.ImpactPath, api.JSON, bytes.NewReader(raw))
	require.NoError(t, err)
	defer answer.Body.Close()
	var result api.ImpactResult
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&result))
	t.Logf("%d identities in %s", n, time.Since(begun))
	require.Equal(t, n, result.Identities)
	require.Less(t, time.Since(begun), 30*time.Second, "on a machine that does nothing else it is below 2 s")
}

// A large body is validated without its long texts, and nothing else about it is different.
func TestALargePopulationIsValidatedAsASmallOneIs(t *testing.T) {
	t.Parallel()
	r := newBank(t)
	small, large := "9001/3201,9001/0001\n", strings.Repeat("9001/3201,9001/0001\n", 20_000)
	for name, c := range map[string]struct {
		body   string // %s is the population
		status int
	}{
		"fine":                 {`{"population":%s,"path":"/"}`, 200},
		"fine, last":           {`{"path":"/","population":%s}`, 200},
		"escaped":              {`{"population":%s,"path":"\u002f"}`, 200},
		"unknown member":       {`{"population":%s,"paht":"/"}`, 422},
		"another type":         {`{"population":%s,"seen":"yes"}`, 422},
		"unknown, within":      {`{"population":%s,"before":{"revison":1}}`, 422},
		"text where none goes": {`{"before":%s}`, 422},
		"text of no member":    {`{"people":%s}`, 422},
		"no object":            {`[%s]`, 422},
		"a text alone":         {`%s`, 422},
		"unfinished":           {`{"population":%s`, 400},
		"twice":                {`{"population":%s}{}`, 400},
	} {
		answers := map[string]answer{}
		for size, population := range map[string]string{"small": small, "large": large} {
			raw, err := json.Marshal(population)
			require.NoError(t, err)
			got := r.do("POST", api.ImpactPath, fmt.Sprintf(c.body, raw), "Content-Type", api.JSON)
			require.Equal(t, c.status, got.status, "%s, %s: %.300s", name, size, got.body)
			answers[size] = got
		}
		if c.status == 200 {
			require.Equal(t, 20_000, decode[api.ImpactResult](t, answers["large"]).Identities, name)
			continue
		}
		a, b := decode[api.Error](t, answers["small"]), decode[api.Error](t, answers["large"])
		require.Equal(t, a.Problems, b.Problems, name)
	}
}

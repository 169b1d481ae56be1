package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tellergate/admin/api"
)

const seenRules = `
services:
  - name: counter
    match: {pathPrefix: /counter}
    default: v1
    versions:
      - {name: v1, pods: %s}
      - {name: v2, pods: %s}
    sessions: {key: [session], subject: teller}
    rules:
      - {name: pilot, priority: 1, when: {attribute: branch, is: "9001/0001"}, then: {version: %s}}
  - name: mobile
    match: {pathPrefix: /mobile}
    default: v1
    versions:
      - {name: v1, pods: %[1]s}
      - {name: v2, pods: %[2]s}
    rules:
      - {name: pilot, priority: 1, when: {attribute: branch, is: "9001/0001"}, then: {version: %[3]s}}
`

// TestWhoWasSeenIsAPopulation sends people through the gateway and asks tgctl, without a file of them, who would notice a
// draft.
func TestWhoWasSeenIsAPopulation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := filepath.Join(dir, "access.log")
	text := strings.Replace(settings(dir, ""), "accessLog: {path: "+log, "accessLog: {mask: [teller], path: "+log, 1)
	require.Contains(t, text, "mask")
	g := start(t, dir, text)
	v1, v2 := servePods(t, "v1", 1), servePods(t, "v2", 1)
	g.PutRules(fmt.Sprintf(seenRules, v1.Static(), v2.Static(), "v1"))
	client := newClient(t, 4)
	const people = 300
	send := func(path string, i int, headers ...string) {
		require.Equal(t, "v1", g.Get(client, path, append([]string{"X-Teller-Id", fmt.Sprintf("%06d", i),
			"X-Branch-Id", fmt.Sprintf("%04d", i%10)}, headers...)...))
	}
	for range 2 {
		for i := range people {
			send("/counter", i, "X-Session-Id", fmt.Sprintf("s-%d", i))
		}
	}
	send("/mobile", 1)
	send("/mobile", 2, "X-Legal-Entity", "9002")
	require.Equal(t, "v2", g.Get(client, "/mobile", "X-Tellergate-Version", "v2", "X-Teller-Id", "9"), "a tester is nobody")
	g.Get(client, "/mobile") // of the default legal entity, which is all that is known
	require.EqualValues(t, people+3, g.Metric("tellergate_seen_identities"))
	require.Zero(t, g.Metric("tellergate_seen_identities_too_long"))

	tgctl, draft := filepath.Join(dir, "tgctl"), filepath.Join(dir, "draft.yaml")
	out, err := exec.Command("go", "build", "-o", tgctl, "tellergate/cmd/tgctl").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.WriteFile(draft, fmt.Appendf(nil, seenRules, v1.Static(), v2.Static(), "v2"), 0o600))
	impact := func(args ...string) string {
		cmd := exec.Command(tgctl, append([]string{"impact", draft, "--seen"}, args...)...)
		cmd.Env = append(os.Environ(), "TGCTL_SERVER="+g.Admin)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	t.Log("\n" + impact())
	var result api.ImpactResult
	require.NoError(t, json.Unmarshal([]byte(impact("--output", "json")), &result))
	require.Equal(t, people+3, result.Identities)
	require.Equal(t, people+3, result.Seen.Held)
	require.Len(t, result.Services, 2)
	counter, mobile := result.Services[0], result.Services[1]
	require.Equal(t, []int{people, people / 10}, []int{counter.Identities, counter.Changed})
	require.Equal(t, []int{3, 1}, []int{mobile.Identities, mobile.Changed}, "whom the counter has seen does not count here")
	require.Equal(t, "9001/0001", counter.Branches[0].Value)
	require.Equal(t, people/10, counter.Branches[0].Identities)
	for _, example := range counter.Examples {
		require.Regexp(t, `^9001/0\*\*\*1$`, example.Attributes["teller"], "masked as in the access log")
		require.NotContains(t, example.Attributes, "session")
	}

	long := make([]byte, 200)
	for i := range long {
		long[i] = '7'
	}
	g.Get(client, "/counter", "X-Teller-Id", string(long))
	require.EqualValues(t, 1, g.Metric("tellergate_seen_identities_too_long"))
	require.Contains(t, impact(), "1 of them too long to be looked at")

	answer, body := g.Call(http.MethodPost, api.ImpactPath, api.JSON, []byte(`{"seen": true, "service": "mobile"}`))
	require.Equal(t, http.StatusOK, answer.StatusCode, "%s", body)
	require.NoError(t, json.Unmarshal(body, &result))
	require.False(t, bytes.Contains(body, []byte("s-1")))
}

package admin_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"tellergate/admin/api"
)

// TestReparentingMovesTheRulesOfABranch goes from the upload of an organisation to decisions: what stands under 3200 gets
// v2, wherever it stood before, and a branch of the same code in another legal entity is another branch.
func TestReparentingMovesTheRulesOfABranch(t *testing.T) {
	t.Parallel()
	r := newReplica(t)
	put := func(entity, lines string) { r.put(api.OrganisationPath(entity), api.CSV, lines) }
	put("9001", "0001,\n3200,0001\n3300,0001\n3201,3200\n3299,3201\n")
	put("9002", "0001,\n3200,0001\n3300,0001\n3201,3300\n3299,3201\n")
	r.put(api.RulesPath, api.YAML, `
services:
  - name: counter
    default: v1
    versions: [{name: v1, pods: {static: ["127.0.0.1:7001"]}}, {name: v2, pods: {static: ["127.0.0.1:7002"]}}]
    rules:
      - {name: north, priority: 20, when: {attribute: branch, under: "9001/3200"}, then: {version: v2}}
      - {name: other-bank, priority: 10, when: {attribute: branch, is: "9002/3200"}, then: {version: v2}}
`)
	version := func(branch string) string {
		raw, err := json.Marshal(api.ExplainRequest{Service: "counter", Attributes: map[string]string{"branch": branch}})
		require.NoError(t, err)
		return decode[api.ExplainResult](t, r.do("POST", api.ExplainPath, string(raw), "Content-Type", api.JSON)).Version
	}
	decided := func(branches ...string) map[string]string {
		versions := map[string]string{}
		for _, branch := range branches {
			versions[branch] = version(branch)
		}
		return versions
	}
	all := []string{"9001/3200", "9001/3300", "9001/3201", "9001/3299", "9002/3200", "9002/3201", "9002/3299"}
	require.Equal(t, map[string]string{"9001/3200": "v2", "9001/3300": "v1", "9001/3201": "v2", "9001/3299": "v2",
		"9002/3200": "v2", "9002/3201": "v1", "9002/3299": "v1"}, decided(all...))

	put("9001", "0001,\n3200,0001\n3300,0001\n3201,3300\n3299,3201\n")
	require.Equal(t, map[string]string{"9001/3200": "v2", "9001/3300": "v1", "9001/3201": "v1", "9001/3299": "v1",
		"9002/3200": "v2", "9002/3201": "v1", "9002/3299": "v1"}, decided(all...), "3201 took 3299 along to 3300")

	put("9002", "0001,\n3200,0001\n3300,0001\n3201,3200\n3299,3201\n")
	require.Equal(t, "v1", version("9002/3201"), "the rule of 9001/3200 says nothing about 9002")
	put("9001", "0001,\n3200,0001\n3300,3200\n3201,3300\n3299,3201\n")
	require.Equal(t, "v2", version("9001/3299"), "three levels below now")
}

package rules

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

var orgBank = []Branch{
	{Code: "1000", Name: "总行"},
	{Code: "3200", Parent: "1000", Name: "江苏分行"},
	{Code: "3201", Parent: "3200", Name: "城关支行"},
	{Code: "3202", Parent: "3200"},
	{Code: "0001", Parent: "3201", Name: `"新街口" 网点`},
	{Code: "3300", Parent: "1000", Name: "浙江分行"},
	{Code: "9000", Name: "村镇银行"},
}

func orgJSON(t *testing.T, o *Organisation) string {
	t.Helper()
	var b bytes.Buffer
	n, err := o.WriteTo(&b)
	require.NoError(t, err)
	require.EqualValues(t, b.Len(), n)
	return b.String()
}

func orgCSV(t *testing.T, o *Organisation) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, o.WriteCSV(&b))
	return b.String()
}

func TestOrganisationUnder(t *testing.T) {
	t.Parallel()
	o, err := NewOrganisation(orgBank)
	require.NoError(t, err)
	require.Equal(t, 7, o.Len())
	for _, c := range []struct {
		code, ancestor string
		want           bool
	}{
		{"1000", "1000", true},
		{"3200", "1000", true},
		{"0001", "1000", true},
		{"0001", "3200", true},
		{"0001", "3201", true},
		{"0001", "0001", true},
		{"0001", "3202", false},
		{"0001", "3300", false},
		{"3200", "0001", false},
		{"9000", "1000", false},
		{"1000", "9000", false},
		{"4711", "1000", false},
		{"1000", "4711", false},
		{"4711", "4711", false},
		{"", "", false},
	} {
		require.Equal(t, c.want, o.Under(c.code, c.ancestor), "%s under %s", c.code, c.ancestor)
	}
}

func TestOrganisationLookupsDoNotAllocate(t *testing.T) {
	o, err := NewOrganisation(orgBank)
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(100, func() { o.Under("0001", "3200") }))
}

func TestOrganisationAgreesWithWalkingUp(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	for round := range 50 {
		n := 1 + random.IntN(60)
		codes := random.Perm(n)
		branches := make([]Branch, n)
		parent := map[string]string{}
		for i := range branches {
			branches[i].Code = fmt.Sprint(codes[i])
			if above := random.IntN(i + 1); above < i { // an earlier one, so that there is no circle
				branches[i].Parent = branches[above].Code
			}
			parent[branches[i].Code] = branches[i].Parent
		}
		random.Shuffle(n, func(i, j int) { branches[i], branches[j] = branches[j], branches[i] })
		o, err := NewOrganisation(branches)
		require.NoError(t, err, "round %d", round)
		for _, a := range branches {
			for _, b := range branches {
				want, at := false, a.Code
				for at != "" && !want {
					want = at == b.Code
					at = parent[at]
				}
				require.Equal(t, want, o.Under(a.Code, b.Code), "round %d: %s under %s", round, a.Code, b.Code)
			}
		}
	}
}

func TestOrganisationMayBeAsDeepAsItHasBranches(t *testing.T) {
	t.Parallel()
	const depth = 20_000
	branches := make([]Branch, depth)
	for i := range branches {
		branches[i].Code = fmt.Sprint(i)
		if i > 0 {
			branches[i].Parent = fmt.Sprint(i - 1)
		}
	}
	o, err := NewOrganisation(branches)
	require.NoError(t, err)
	require.True(t, o.Under(fmt.Sprint(depth-1), "0"))
	require.False(t, o.Under("0", "1"))

	branches[0].Parent = fmt.Sprint(depth - 1)
	_, err = NewOrganisation(branches)
	require.ErrorContains(t, err, `"0" → "19999" → "19998"`)
	require.ErrorContains(t, err, `… (20000 branches) → "0"`)
}

func TestOrganisationTexts(t *testing.T) {
	t.Parallel()
	o, err := NewOrganisation(orgBank)
	require.NoError(t, err)
	text := `{"branches":[{"code":"0001","parent":"3201","name":"\"新街口\" 网点"},{"code":"1000","name":"总行"},` +
		`{"code":"3200","parent":"1000","name":"江苏分行"},{"code":"3201","parent":"3200","name":"城关支行"},` +
		`{"code":"3202","parent":"3200"},{"code":"3300","parent":"1000","name":"浙江分行"},` +
		`{"code":"9000","name":"村镇银行"}]}` + "\n"
	require.Equal(t, text, orgJSON(t, o))
	again, err := ParseOrganisation([]byte(text))
	require.NoError(t, err)
	require.Equal(t, o, again)

	csv := "code,parent,name\n0001,3201,\"\"\"新街口\"\" 网点\"\n1000,,总行\n3200,1000,江苏分行\n3201,3200,城关支行\n" +
		"3202,3200,\n3300,1000,浙江分行\n9000,,村镇银行\n"
	require.Equal(t, csv, orgCSV(t, o))
	again, duplicates, err := ParseOrganisationCSV([]byte(csv))
	require.NoError(t, err)
	require.Zero(t, duplicates)
	require.Equal(t, o, again)
}

func TestParseOrganisationCSVWithoutHeaderAndWithDuplicates(t *testing.T) {
	t.Parallel()
	o, duplicates, err := ParseOrganisationCSV([]byte("\ufeff3201,3200\r\n\r\n 3200 ,\r\n3201,3200\r\n3201, 3200,\r\n"))
	require.NoError(t, err)
	require.Equal(t, 2, duplicates)
	require.Equal(t, []Branch{{Code: "3200"}, {Code: "3201", Parent: "3200"}}, o.Branches())
}

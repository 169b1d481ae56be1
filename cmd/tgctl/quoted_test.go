package main

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"tellergate/admin/api"
)

func TestQuotedIsWhatJSONReads(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "a", "teller\n9001/0001\r\n", `"quoted" \ <&>`, "网点,柜员,法人\n", "\x00\x1f\u2028😀",
		strings.Repeat("9001/网点,", 20_000), strings.Repeat("x", quotedPiece-1) + "法", strings.Repeat("x", quotedPiece-2) + "😀x",
	} {
		for name, from := range map[string]io.Reader{
			"whole": strings.NewReader(text), "bytes": iotest.OneByteReader(strings.NewReader(text)),
			"error with data": iotest.DataErrReader(strings.NewReader(text)),
		} {
			raw, err := io.ReadAll(&quoted{from: from})
			require.NoError(t, err)
			var back string
			require.NoError(t, json.Unmarshal([]byte(`"`+string(raw)+`"`), &back), name)
			require.Equal(t, text, back, name)
		}
	}
}

func TestQuotedTakesAnEndWithinACharacter(t *testing.T) {
	t.Parallel()
	raw, err := io.ReadAll(&quoted{from: strings.NewReader("x\xe6\xb3")})
	require.NoError(t, err)
	require.Equal(t, `x\ufffd\ufffd`, string(raw), "as json.Marshal writes what is not UTF-8")
}

func TestQuotedEndsAsItsSource(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	raw, err := io.ReadAll(&quoted{from: io.MultiReader(strings.NewReader("x"), iotest.ErrReader(broken))})
	require.ErrorIs(t, err, broken)
	require.Equal(t, "x", string(raw))
}

func TestAPopulationStandsBeforeTheOtherMembers(t *testing.T) {
	t.Parallel()
	for _, request := range []api.ImpactRequest{{}, {Path: "/", Headers: map[string]string{"A": "b"}}} {
		raw, err := io.ReadAll(withPopulation(&request, strings.NewReader("9001/0001,\n")))
		require.NoError(t, err)
		var sent api.ImpactRequest
		require.NoError(t, json.Unmarshal(raw, &sent), "%s", raw)
		request.Population = "9001/0001,\n"
		require.Equal(t, request, sent)
	}
}

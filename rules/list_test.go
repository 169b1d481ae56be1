package rules

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	listTeller = Attribute{Name: "teller", Within: "legalEntity", Claim: true}
	listEntity = Attribute{Name: "legalEntity", Claim: true}
	listSchema = NewSchema([]Attribute{listEntity, listTeller, {Name: "channel"}}, nil, false)
)

func listJSON(t *testing.T, l *List) string {
	t.Helper()
	var b bytes.Buffer
	n, err := l.WriteTo(&b)
	require.NoError(t, err)
	require.EqualValues(t, b.Len(), n)
	return b.String()
}

func listCSV(t *testing.T, l *List) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, l.WriteCSV(&b))
	return b.String()
}

func TestListHoldsWhatItWasGiven(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 3, 7, 100, 10_000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			values := make([]string, n)
			for i := range values {
				values[i] = fmt.Sprintf("9001/%06d", i*7)
			}
			shuffled := slices.Clone(values)
			rand.New(rand.NewPCG(1, 2)).Shuffle(n, func(i, j int) {
				shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
			})
			l := NewList("teller", append(shuffled, values...))
			require.Equal(t, "teller", l.Attribute())
			require.Equal(t, n, l.Len())
			require.Equal(t, values, l.Values())
			for i, v := range values {
				require.True(t, l.Contains(v), v)
				require.False(t, l.Contains(fmt.Sprintf("9001/%06d", i*7+1)))
				require.False(t, l.Contains(v+"0"))
				require.False(t, l.Contains(v[:len(v)-1]))
			}
			require.False(t, l.Contains(""))
		})
	}
}

func TestListTellsLongAndShortValuesApart(t *testing.T) {
	t.Parallel()
	values := []string{"", "a", strings.Repeat("b", 127), strings.Repeat("b", 128), strings.Repeat("b", 40_000), "网点"}
	l := NewList("x", values)
	require.Equal(t, len(values), l.Len())
	for _, v := range values {
		require.True(t, l.Contains(v))
	}
	require.False(t, l.Contains(strings.Repeat("b", 129)))
	slices.Sort(values)
	require.Equal(t, values, l.Values())
	require.Equal(t, values, slices.Collect(l.All()))
}

func TestListLookupsDoNotAllocate(t *testing.T) {
	l := NewList("teller", []string{"9001/0001", "9001/0002"})
	for _, v := range []string{"9001/0001", "9001/0003"} {
		require.Zero(t, testing.AllocsPerRun(100, func() { l.Contains(v) }))
	}
}

func TestListCanonicalText(t *testing.T) {
	t.Parallel()
	l := NewList("teller", []string{"9002/0001", `9001/"\`, "9001/柜员", "9001/0001", "9002/0001"})
	text := `{"attribute":"teller","values":["9001/\"\\","9001/0001","9001/柜员","9002/0001"]}` + "\n"
	require.Equal(t, text, listJSON(t, l))
	require.Equal(t, "teller\n\"9001/\"\"\\\"\n9001/0001\n9001/柜员\n9002/0001\n", listCSV(t, l))

	again, err := ParseList([]byte(text))
	require.NoError(t, err)
	require.Equal(t, l, again)

	empty := listJSON(t, NewList("branch", nil))
	require.Equal(t, `{"attribute":"branch","values":[]}`+"\n", empty)
	again, err = ParseList([]byte(empty))
	require.NoError(t, err)
	require.Zero(t, again.Len())
	require.False(t, again.Contains(""))
}

func TestParseListTrimsAndMerges(t *testing.T) {
	t.Parallel()
	l, err := ParseList([]byte("\ufeff{\"values\": [\" 0012\\t\", \"0012\", \"12\", \"\u3000网点\ufeff\"],\n \"attribute\": \"branch\"}\n"))
	require.NoError(t, err)
	require.Equal(t, "branch", l.Attribute())
	require.Equal(t, []string{"0012", "12", "网点"}, l.Values())
}

func TestParseListCSV(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		attribute  Attribute
		want       []string
		duplicates int
	}{
		{"nothing", "", listEntity, []string{}, 0},
		{"only a header", "legalEntity\n", listEntity, []string{}, 0},
		{"values", "9001\n0002\n", listEntity, []string{"0002", "9001"}, 0},
		{"header in another case", "LegalEntity\n9001\n", listEntity, []string{"9001"}, 0},
		{"mark, CRLF, white space, empty lines", "\ufefflegalEntity\r\n\r\n 9001\t\r\n9002", listEntity, []string{"9001", "9002"}, 0},
		{"duplicates", "9002\n9001\n9002 \n9002\n", listEntity, []string{"9001", "9002"}, 2},
		{"pairs", "teller\n9001/0001\n9001 / 0002\n", listTeller, []string{"9001/0001", "9001/0002"}, 0},
		{"two columns", "legalEntity,teller\n9001,0001\n9001, 0001\n9002,a/b\n", listTeller,
			[]string{"9001/0001", "9002/a/b"}, 1},
		{"both forms", "9001,0001\n9001/0001\n", listTeller, []string{"9001/0001"}, 1},
		{"quoted", "\"a,b\"\n\"say \"\"x\"\"\"\n", Attribute{Name: "channel"}, []string{"a,b", `say "x"`}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l, duplicates, err := ParseListCSV([]byte(c.text), c.attribute)
			require.NoError(t, err)
			require.Equal(t, c.attribute.Name, l.Attribute())
			require.Equal(t, c.want, l.Values())
			require.Equal(t, c.duplicates, duplicates)

			again, duplicates, err := ParseListCSV([]byte(listCSV(t, l)), c.attribute)
			require.NoError(t, err)
			require.Zero(t, duplicates)
			require.Equal(t, l, again)
		})
	}
}

func TestAListKeepsNothingOfItsText(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"plain":     `{"attribute":"teller","values":["9001/0001","9001/0002"]}`,
		"not plain": `{ "attribute":"teller", "values":["9001/0002","9001/\u0030001"]}`,
		"csv":       "teller\n9001/0001\n9001/0002\n",
		"quoted":    "\"9001\",\"0002\"\n\"9001\",\"0001\"\n",
	} {
		body := []byte(text)
		var list *List
		var err error
		if text[0] == '{' {
			list, err = ParseList(body)
		} else {
			list, _, err = ParseListCSV(body, listTeller)
		}
		require.NoError(t, err, name)
		for i := range body {
			body[i] = 'x'
		}
		require.Equal(t, "teller", list.Attribute(), name)
		require.Equal(t, []string{"9001/0001", "9001/0002"}, list.Values(), name)
		require.True(t, list.Contains("9001/0001"), name)
	}
}

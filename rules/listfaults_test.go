package rules

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tellergate/internal/problem"
)

var listUpdate = flag.Bool("update-lists", false, "write testdata/list/*.want and testdata/organisation/*.want anew")

// listGolden reads every bad text of a directory and compares the exact problems with the file beside it.
func listGolden(t *testing.T, directory string, read func(name string, text []byte) error) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", directory, "*.*"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		name := filepath.Base(file)
		if filepath.Ext(name) == ".want" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			err = read(name, text)
			require.Error(t, err)
			var problems problem.List
			require.ErrorAs(t, err, &problems)
			require.LessOrEqual(t, len(problems), maxFaults+1)
			if *listUpdate {
				require.NoError(t, os.WriteFile(file+".want", []byte(err.Error()+"\n"), 0o644))
			}
			want, err2 := os.ReadFile(file + ".want")
			require.NoError(t, err2)
			require.Equal(t, string(want), err.Error()+"\n")
		})
	}
}

func TestBadLists(t *testing.T) {
	t.Parallel()
	listGolden(t, "list", func(name string, text []byte) error {
		if filepath.Ext(name) == ".json" {
			_, err := ParseList(text)
			return err
		}
		attribute := listEntity
		if strings.HasPrefix(name, listTeller.Name) {
			attribute = listTeller
		}
		_, _, err := ParseListCSV(text, attribute)
		return err
	})
}

func TestBadOrganisations(t *testing.T) {
	t.Parallel()
	listGolden(t, "organisation", func(name string, text []byte) error {
		if filepath.Ext(name) == ".json" {
			_, err := ParseOrganisation(text)
			return err
		}
		_, _, err := ParseOrganisationCSV(text)
		return err
	})
}

func TestNewOrganisationNamesTheBranchAtFault(t *testing.T) {
	t.Parallel()
	_, err := NewOrganisation([]Branch{{Code: "1"}, {Code: "2", Parent: "9"}, {Code: " "}, {Code: "3", Parent: "3"}})
	require.EqualError(t, err, strings.Join([]string{
		`branches[2].code: the value is empty; fill it in or remove it`,
		`branches[3].parent: branch "3" is its own parent; ` +
			`name the branch above it, or leave the parent empty for a head office`,
		`branches[1].parent: branch "2" stands under "9", which the organisation does not have; ` +
			`add that branch, or correct the parent`,
	}, "\n"))
}

func TestListCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, attribute string
		values          []string
		want            string
	}{
		{"empty", "teller", nil, ""},
		{"pairs", "teller", []string{"9001/0001", "9001/a/b"}, ""},
		{"values", "channel", []string{"counter", "a/b"}, ""},
		{"outer values", "legalEntity", []string{"9001"}, ""},
		{"undeclared", "terminal", []string{"1"},
			`attribute: attribute "terminal" is not declared; declare it under identity in the process settings, or correct the name`},
		{"no pair", "teller", []string{"0001", "9001/0001"},
			`values[0]: value "0001" of teller is not a pair; ` +
				`teller is declared within legalEntity: write legalEntity/teller, for example 9001/0001`},
		{"half a pair", "teller", []string{"/0001", "9001/"},
			`values[0]: legalEntity of the pair "/0001": the value is empty; fill it in or remove it` + "\n" +
				`values[1]: teller of the pair "9001/": the value is empty; fill it in or remove it`},
		{"a loose pair", "teller", []string{"9001 / 0001"},
			`values[0]: value "9001 / 0001" has white space beside its slash; write "9001/0001"`},
		{"a slash outside", "legalEntity", []string{"90/01"},
			`values[0]: value "90/01" holds a slash; other attributes are declared within legalEntity, so its values have none`},
		{"too long for a value", "channel", []string{strings.Repeat("x", 257)},
			`values[0]: value "` + strings.Repeat("x", 40) + `"… has 257 bytes, more than 256; shorten it`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := NewList(c.attribute, c.values).Check(listSchema)
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, c.want)
		})
	}
}

func TestCleanValue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ raw, want, fault string }{
		{"0012", "0012", ""},
		{" \t0012\r\n", "0012", ""},
		{"\ufeff\u3000网点 一\u00a0", "网点 一", ""},
		{strings.Repeat("x", 256), strings.Repeat("x", 256), ""},
		{" " + strings.Repeat("x", 256), strings.Repeat("x", 256), ""},
		{"", "", "the value is empty"},
		{" \ufeff", "", "the value is empty"},
		{"a\x00b", "", `value "a\x00b" holds the control character U+0000`},
		{"a\x7fb", "", `value "a\x7fb" holds the control character U+007F`},
		{"a\u0085b", "", `value "a\u0085b" holds the control character U+0085`},
		{"a\xff", "", `value "a\xff" is not UTF-8`},
		{strings.Repeat("支", 86), "", `value "` + strings.Repeat("支", 40) + `"… has 258 bytes, more than 256`},
	} {
		value, fault := CleanValue(c.raw)
		require.Equal(t, c.want, value, "%q", c.raw)
		if c.fault == "" {
			require.Nil(t, fault, "%q", c.raw)
			continue
		}
		require.NotNil(t, fault, "%q", c.raw)
		require.Equal(t, c.fault, fault.Message)
		require.NotEmpty(t, fault.Remedy)
	}
}

func TestCleanValueOfACleanValueDoesNotAllocate(t *testing.T) {
	for _, raw := range []string{"9001", " 9001 ", "网点"} {
		require.Zero(t, testing.AllocsPerRun(100, func() { CleanValue(raw) }), raw)
	}
}

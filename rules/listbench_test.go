package rules

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

const listMillion = 1_000_000

// listMillionPairs returns a million tellers of ten legal entities in random order.
func listMillionPairs() []string {
	values := make([]string, listMillion)
	for i := range values {
		values[i] = fmt.Sprintf("%d/%08d", 9001+i%10, i)
	}
	rand.New(rand.NewPCG(5, 6)).Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
	return values
}

// TestAMillionValuesFitInTheirBudget holds the list to 48 MiB and to a handful of objects.
func TestAMillionValuesFitInTheirBudget(t *testing.T) {
	values := listMillionPairs()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	l := NewList("teller", values)
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Equal(t, listMillion, l.Len())
	for _, v := range values[:1000] {
		require.True(t, l.Contains(v))
	}
	require.Less(t, after.HeapAlloc-before.HeapAlloc, uint64(48<<20))
	require.Less(t, int64(after.HeapObjects)-int64(before.HeapObjects), int64(100))
	runtime.KeepAlive(values)
}

func BenchmarkNewListMillion(b *testing.B) {
	values := listMillionPairs()
	b.ReportAllocs()
	for b.Loop() {
		NewList("teller", values)
	}
}

func BenchmarkParseListMillion(b *testing.B) {
	var text bytes.Buffer
	_, err := NewList("teller", listMillionPairs()).WriteTo(&text)
	require.NoError(b, err)
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		_, err := ParseList(text.Bytes())
		require.NoError(b, err)
	}
}

func BenchmarkParseListCSVMillion(b *testing.B) {
	for _, order := range []string{"sorted", "shuffled"} {
		b.Run(order, func(b *testing.B) {
			values := listMillionPairs()
			if order == "sorted" {
				values = NewList("teller", values).Values()
			}
			var text bytes.Buffer
			for _, v := range values {
				text.WriteString(v + "\n")
			}
			b.SetBytes(int64(text.Len()))
			b.ReportAllocs()
			for b.Loop() {
				_, _, err := ParseListCSV(text.Bytes(), listTeller)
				require.NoError(b, err)
			}
		})
	}
}

func BenchmarkListWriteToMillion(b *testing.B) {
	l := NewList("teller", listMillionPairs())
	b.ReportAllocs()
	for b.Loop() {
		_, err := l.WriteTo(io.Discard)
		require.NoError(b, err)
	}
}

func BenchmarkListContains(b *testing.B) {
	for _, n := range []int{10, 1_000, 100_000, listMillion} {
		all := listMillionPairs()
		l := NewList("teller", all[:n])
		for name, sought := range map[string][]string{"hit": all[:min(n, 4096)], "miss": all[listMillion-4096:]} {
			if n == listMillion && name == "miss" {
				sought = append([]string(nil), sought...)
				for i := range sought {
					sought[i] += "x"
				}
			}
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					l.Contains(sought[i%len(sought)])
					i++
				}
			})
		}
	}
}

// orgHundredThousand returns a bank of 100,000 branches in four levels.
func orgHundredThousand() []Branch {
	branches := make([]Branch, 100_000)
	for i := range branches {
		branches[i] = Branch{Code: fmt.Sprintf("%06d", i), Name: fmt.Sprintf("网点 %d", i)}
		if i > 0 {
			branches[i].Parent = fmt.Sprintf("%06d", (i-1)/40)
		}
	}
	return branches
}

func BenchmarkNewOrganisationHundredThousand(b *testing.B) {
	branches := orgHundredThousand()
	b.ReportAllocs()
	for b.Loop() {
		_, err := NewOrganisation(branches)
		require.NoError(b, err)
	}
}

func BenchmarkParseOrganisationHundredThousand(b *testing.B) {
	o, err := NewOrganisation(orgHundredThousand())
	require.NoError(b, err)
	var text bytes.Buffer
	_, err = o.WriteTo(&text)
	require.NoError(b, err)
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		_, err := ParseOrganisation(text.Bytes())
		require.NoError(b, err)
	}
}

func BenchmarkOrganisationUnder(b *testing.B) {
	branches := orgHundredThousand()
	o, err := NewOrganisation(branches)
	require.NoError(b, err)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		o.Under(branches[i*7919%len(branches)].Code, "000001")
		i++
	}
}

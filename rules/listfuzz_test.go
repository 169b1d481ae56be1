package rules

import (
	"bytes"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// listIsSound checks what holds for every list that was read from a text.
func listIsSound(t *testing.T, l *List) {
	t.Helper()
	values := l.Values()
	require.Len(t, values, l.Len())
	for i, v := range values {
		require.True(t, l.Contains(v))
		require.True(t, utf8.ValidString(v))
		require.NotEmpty(t, v)
		if i > 0 {
			require.Less(t, values[i-1], v)
		}
	}
	again, err := ParseList([]byte(listJSON(t, l)))
	require.NoError(t, err)
	require.Equal(t, l, again)
}

func FuzzParseList(f *testing.F) {
	f.Add([]byte(`{"attribute":"teller","values":["9001/0001","9001/柜员","\"\\"]}`))
	f.Add([]byte("\ufeff{ \"values\" : [ ] ,\n\"attribute\":\"branch\"}"))
	f.Add([]byte(`{"attribute":"teller","values":[1,null,{"a":[]},"a` + "\xff" + `"],"x":{}}`))
	f.Add([]byte(`{"attribute":"te\u006cler","values":["a\\","b","a\"","\ud800"," c "]} `))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := ParseList(text)
		if err == nil {
			listIsSound(t, l)
		}
		if clean, fault := Pause(nil).checkText(text); fault == nil {
			slow, slowErr := Pause(nil).parseList(clean)
			require.Equal(t, slowErr, err)
			require.Equal(t, slow, l, "both ways of reading read the same")
		}
	})
}

// FuzzCSVLines holds the reader of texts without quotation marks to the general one. Where a record begins may differ
// where carriage returns stand for themselves, by as many of them.
func FuzzCSVLines(f *testing.F) {
	f.Add([]byte("a,b\r\n\r\n,\n\r\rc\r\n\n \nd\r"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if bytes.IndexByte(text, '"') >= 0 {
			return
		}
		fast, general := newCSVReader(text, nil), newCSVReader(text, nil)
		general.plain = false
		for {
			want, more := general.read()
			got, also := fast.read()
			require.Equal(t, more, also)
			if !more {
				return
			}
			require.Equal(t, want, got)
			if !bytes.Contains(text, []byte{'\r'}) {
				require.Equal(t, general.start, fast.start)
			}
		}
	})
}

func FuzzParseListCSV(f *testing.F) {
	f.Add([]byte("legalEntity,teller\n9001,0001\n9001/0002\n"), true)
	f.Add([]byte("\"a\"\"b\"\r\n\r\nx"), false)
	f.Add([]byte("a,b\n\"\n\xff"), false)
	f.Fuzz(func(t *testing.T, text []byte, pairs bool) {
		attribute := listEntity
		if pairs {
			attribute = listTeller
		}
		l, duplicates, err := ParseListCSV(text, attribute)
		if err != nil {
			return
		}
		require.GreaterOrEqual(t, duplicates, 0)
		listIsSound(t, l)
		again, duplicates, err := ParseListCSV([]byte(listCSV(t, l)), attribute)
		require.NoError(t, err)
		require.Zero(t, duplicates)
		require.Equal(t, l, again)
		if pairs {
			require.NoError(t, l.Check(listSchema))
		}
	})
}

// orgIsSound checks what holds for every organisation that was read from a text.
func orgIsSound(t *testing.T, o *Organisation) {
	t.Helper()
	branches := o.Branches()
	require.Len(t, branches, o.Len())
	for i, b := range branches {
		require.True(t, o.Under(b.Code, b.Code))
		if b.Parent != "" {
			require.True(t, o.Under(b.Code, b.Parent))
			require.False(t, o.Under(b.Parent, b.Code))
		}
		if i > 0 {
			require.Less(t, branches[i-1].Code, b.Code)
		}
	}
	again, err := ParseOrganisation([]byte(orgJSON(t, o)))
	require.NoError(t, err)
	require.Equal(t, o, again)
	again, duplicates, err := ParseOrganisationCSV([]byte(orgCSV(t, o)))
	require.NoError(t, err)
	require.Zero(t, duplicates)
	require.Equal(t, o, again)
}

func FuzzParseOrganisation(f *testing.F) {
	f.Add([]byte(`{"branches":[{"code":"1"},{"code":"2","parent":"1","name":"江苏分行"},{"parent":"2","code":"3"}]}`))
	f.Add([]byte(`{"branches":[{"code":"1","parent":"2"},{"code":"2","parent":"1"},{"code":"2","parent":"3"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if o, err := ParseOrganisation(text); err == nil {
			orgIsSound(t, o)
		}
	})
}

func FuzzParseOrganisationCSV(f *testing.F) {
	f.Add([]byte("code,parent,name\n1,,总行\n2,1,\"a \"\"b\"\"\"\n2,1,\"a \"\"b\"\"\"\n"))
	f.Add([]byte("1,2\n2,3\n3,1\n4,4\n5\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		o, _, err := ParseOrganisationCSV(text)
		if err == nil {
			orgIsSound(t, o)
		}
	})
}

package proxy

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/config"
	"tellergate/rules"
)

// bare returns a request that has been read from a raw header block, without a server.
func bare(t testing.TB, s *config.Settings, peer string, raw string) *request {
	t.Helper()
	var attributes []rules.Attribute
	for _, a := range s.Identity {
		attributes = append(attributes, rules.Attribute{Name: a.Name, Within: a.Within, Claim: a.Claim})
	}
	schema := rules.NewSchema(attributes, nil, false)
	terms, err := newTerms(s, schema)
	require.NoError(t, err)
	p := &Proxy{schema: schema}
	r := newRequest(p)
	r.terms, r.front = terms, &terms.frontends[0]
	r.peer = netip.MustParseAddr(peer)
	require.Nil(t, r.readFields([]byte(raw), 200))
	r.findClient()
	return r
}

func TestReadFields(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		raw  string
		want *refusal
	}{
		"plain":         {"Host: a\r\nX: 1\r\n\r\n", nil},
		"empty value":   {"Host: a\r\nX:\r\n\r\n", nil},
		"bare LF":       {"Host: a\nX: 1\r\n\r\n", &badRequest},
		"folded":        {"Host: a\r\nX: 1\r\n 2\r\n\r\n", &badRequest},
		"folded by tab": {"Host: a\r\nX: 1\r\n\t2: 3\r\n\r\n", &badRequest},
		"space in name": {"Host: a\r\nBad Name: 1\r\n\r\n", &badRequest},
		"no colon":      {"Host: a\r\nnonsense\r\n\r\n", &badRequest},
		"no name":       {"Host: a\r\n: 1\r\n\r\n", &badRequest},
		"too many":      {"Host: a\r\n" + strings.Repeat("X: 1\r\n", 200) + "\r\n", &headerTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRequest(&Proxy{schema: rules.NewSchema(nil, nil, false)})
			require.Equal(t, test.want, r.readFields([]byte(test.raw), 200))
		})
	}
}

func TestClientAddress(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ peer, raw, want string }{
		"no header":                {"10.9.0.1", "", "10.9.0.1"},
		"untrusted peer":           {"10.1.0.1", "X-Forwarded-For: 1.1.1.1\r\n", "10.1.0.1"},
		"trusted peer":             {"10.9.0.1", "X-Forwarded-For: 1.1.1.1\r\n", "1.1.1.1"},
		"right-most":               {"10.9.0.1", "X-Forwarded-For: 6.6.6.6, 1.1.1.1\r\n", "1.1.1.1"},
		"through a chain":          {"10.9.0.1", "X-Forwarded-For: 6.6.6.6, 1.1.1.1, 10.9.0.2\r\n", "1.1.1.1"},
		"two lines":                {"10.9.0.1", "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 10.9.0.3\r\n", "1.1.1.1"},
		"all trusted":              {"10.9.0.1", "X-Forwarded-For: 10.9.0.3, 10.9.0.2\r\n", "10.9.0.3"},
		"nonsense stops":           {"10.9.0.1", "X-Forwarded-For: 1.1.1.1, unknown, 10.9.0.2\r\n", "10.9.0.2"},
		"only nonsense":            {"10.9.0.1", "X-Forwarded-For: unknown\r\n", "10.9.0.1"},
		"empty element":            {"10.9.0.1", "X-Forwarded-For: 1.1.1.1,\r\n", "10.9.0.1"},
		"with port":                {"10.9.0.1", "X-Forwarded-For: 1.1.1.1:4711\r\n", "1.1.1.1"},
		"IPv6":                     {"10.9.0.1", "X-Forwarded-For: [2001:db8::1]\r\n", "2001:db8::1"},
		"IPv6 with port":           {"10.9.0.1", "X-Forwarded-For: [2001:db8::1]:80\r\n", "2001:db8::1"},
		"IPv4 in IPv6":             {"10.9.0.1", "X-Forwarded-For: ::ffff:1.1.1.1\r\n", "1.1.1.1"},
		"underscores say nothing":  {"10.9.0.1", "X_Forwarded_For: 1.1.1.1\r\n", "10.9.0.1"},
		"case of the name is free": {"10.9.0.1", "x-forwarded-FOR: 1.1.1.1\r\n", "1.1.1.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := settings()
			s.Frontends[0].Trust.Forwarded = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}
			r := bare(t, s, test.peer, test.raw+"\r\n")
			require.Equal(t, test.want, r.client.String())
		})
	}
}

func TestCleanValue(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		raw, want string
		ok        bool
	}{
		"plain":          {"0001", "0001", true},
		"trimmed":        {" \t0001 ", "0001", true},
		"byte order":     {"\ufeff0001", "0001", true},
		"wide space":     {"\u3000总行\u3000", "总行", true},
		"empty":          {"", "", true},
		"only blank":     {"  ", "", true},
		"control":        {"00\x0101", "", false},
		"delete":         {"00\x7f01", "", false},
		"C1":             {"00\u008501", "", false},
		"GBK":            {"\xd7\xdc", "", false},
		"256 bytes":      {strings.Repeat("a", 256), strings.Repeat("a", 256), true},
		"257 bytes":      {strings.Repeat("a", 257), "", false},
		"too long UTF-8": {strings.Repeat("行", 86), "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			value, ok := cleanValue([]byte(test.raw))
			require.Equal(t, test.ok, ok)
			require.Equal(t, test.want, string(value))
		})
	}
}

func FuzzCleanValue(f *testing.F) {
	for _, seed := range []string{"0001", " 总行", "\ufeffx", "\xff", "a\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		value, ok := cleanValue(raw)
		if !ok {
			return
		}
		again, ok := cleanValue(value)
		require.True(t, ok)
		require.Equal(t, string(value), string(again), "cleaning is idempotent")
	})
}

func TestReadSetCookie(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		line, value string
		gone        bool
	}{
		"plain":            {"JSESSIONID=abc; Path=/; HttpOnly", "abc", false},
		"no attributes":    {"JSESSIONID=abc", "abc", false},
		"empty":            {"JSESSIONID=; Path=/", "", true},
		"quoted empty":     {`JSESSIONID=""`, `""`, true},
		"Max-Age 0":        {"JSESSIONID=x; max-age=0", "x", true},
		"Max-Age negative": {"JSESSIONID=x; Max-Age=-1", "x", true},
		"Max-Age lives":    {"JSESSIONID=x; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "x", false},
		"expired":          {"JSESSIONID=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "x", true},
		"expires later":    {"JSESSIONID=x; Expires=Thu, 01 Jan 2099 00:00:00 GMT", "x", false},
		"equals in value":  {"JSESSIONID=a=b; Path=/", "a=b", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			value, gone := readSetCookie([]byte(test.line), now)
			require.Equal(t, test.value, string(value))
			require.Equal(t, test.gone, gone)
		})
	}
}

func TestWithoutCookie(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ line, want string }{
		"first":  {"BRANCH=1; JSESSIONID=a b\"c", "JSESSIONID=a b\"c"},
		"last":   {"JSESSIONID=x; BRANCH=1", "JSESSIONID=x"},
		"middle": {"A=1; BRANCH=1;  B=2", "A=1;  B=2"},
		"twice":  {"BRANCH=1; A=1; BRANCH=2", "A=1"},
		"only":   {"BRANCH=1", ""},
		"comma":  {"A=1, BRANCH=1;B=2", "A=1;B=2"},
		"none":   {"A=BRANCH=1, X BRANCH=2;", "A=BRANCH=1, X BRANCH=2;"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kept, found := withoutCrumbs([]byte(test.line), ";,", func(key []byte) bool {
				return string(bytes.TrimSpace(key)) == "BRANCH"
			})
			require.Equal(t, test.want, strings.TrimLeft(string(kept), " "))
			require.Equal(t, name != "none", found)
		})
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	const trusted, stranger = "127.0.0.1", "10.1.1.1"
	for name, test := range map[string]struct {
		peer, raw, query             string
		branch, teller, sessionValue string
		want                         *refusal
	}{
		"trusted":               {peer: trusted, raw: "X-Branch-Id: 0001\r\nx-teller-id: 7\r\n", branch: "9001/0001", teller: "9001/7"},
		"another entity":        {peer: trusted, raw: "X-Legal-Entity: 9002\r\nX-Branch-Id: 0001\r\n", branch: "9002/0001"},
		"untrusted":             {peer: stranger, raw: "X-Branch-Id: 0001\r\nX-Teller-Id: 7\r\nX-Legal-Entity: 9002\r\n"},
		"untrusted query":       {peer: stranger, query: "branch=0001"},
		"handle from stranger":  {peer: stranger, raw: "Cookie: JSESSIONID=abc\r\n", sessionValue: "abc"},
		"handle from header":    {peer: stranger, raw: "X-Session-Id: abc\r\n", sessionValue: "abc"},
		"query":                 {peer: trusted, query: "a=1&br%61nch=%300+01", branch: "9001/00 01"},
		"cookie":                {peer: trusted, raw: "Cookie: a=b; BRANCH=0001\r\n", branch: "9001/0001"},
		"two sources agree":     {peer: trusted, raw: "X-Branch-Id: 1\r\n", query: "branch=1", branch: "9001/1"},
		"two sources differ":    {peer: trusted, raw: "X-Branch-Id: 1\r\n", query: "branch=2", want: &claimDuplicated},
		"empty is missing":      {peer: trusted, raw: "X-Branch-Id:  \r\n", query: "branch=2", branch: "9001/2"},
		"duplicated header":     {peer: trusted, raw: "X-Branch-Id: 1\r\nX-Branch-Id: 1\r\n", want: &claimDuplicated},
		"duplicated query":      {peer: trusted, query: "branch=1&branch=2", want: &claimDuplicated},
		"duplicated cookie":     {peer: trusted, raw: "Cookie: BRANCH=1; BRANCH=1\r\n", want: &claimDuplicated},
		"duplicate of stranger": {peer: stranger, raw: "X-Branch-Id: 1\r\nX-Branch-Id: 2\r\n"},
		"malformed":             {peer: trusted, raw: "X-Branch-Id: \xff\r\n", want: &claimMalformed},
		"bad escape":            {peer: trusted, query: "branch=%zz", want: &claimMalformed},
		"slash in outer":        {peer: trusted, raw: "X-Legal-Entity: 9/1\r\n", want: &claimMalformed},
		"slash in inner":        {peer: trusted, raw: "X-Branch-Id: a/b\r\n", branch: "9001/a/b"},
		"malformed handle":      {peer: trusted, raw: "Cookie: JSESSIONID=\xff\r\n"},
		"duplicated handle":     {peer: trusted, raw: "Cookie: JSESSIONID=a; JSESSIONID=b\r\n", sessionValue: "a"},
		"other spelling":        {peer: trusted, raw: "X_Branch_Id: 1\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := bare(t, settings(), test.peer, test.raw+"\r\n")
			r.rawQuery = []byte(test.query)
			r.target = []byte("/?" + test.query)
			require.Equal(t, test.want, r.identify())
			if test.want == nil {
				require.Equal(t, []string{test.branch, test.teller, test.sessionValue}, r.query.Attributes[1:])
			}
		})
	}
}

func TestIdentityAllocatesNothing(t *testing.T) {
	s := settings()
	raw := "Host: a\r\nX-Branch-Id: 0001\r\nX-Teller-Id: 7\r\nX-Legal-Entity: 9002\r\nCookie: a=b; JSESSIONID=abc\r\n\r\n"
	r := bare(t, s, "127.0.0.1", raw)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		r.fields, r.scratch = r.fields[:0], r.scratch[:0]
		if r.readFields([]byte(nil), 200) != nil || r.readFields(rawBytes, 200) != nil {
			t.Fatal("refused")
		}
		r.findClient()
		if r.identify() != nil {
			t.Fatal("refused")
		}
	}))
}

var rawBytes = []byte("Host: a\r\nAccept: */*\r\nUser-Agent: x\r\nX-Branch-Id: 0001\r\nX-Teller-Id: 7\r\n" +
	"X-Legal-Entity: 9002\r\nCookie: a=b; JSESSIONID=abc\r\n\r\n")

func BenchmarkIdentity(b *testing.B) {
	r := bare(b, settings(), "127.0.0.1", string(rawBytes))
	b.ReportAllocs()
	for b.Loop() {
		r.fields, r.scratch = r.fields[:0], r.scratch[:0]
		r.readFields(rawBytes, 200)
		r.findClient()
		r.identify()
	}
}

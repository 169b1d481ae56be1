package admin_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tellergate/admin/api"
)

func TestListsTellWhoUsesThem(t *testing.T) {
	t.Parallel()
	r := newBank(t)
	r.put(api.ListPath("空名单"), api.JSON, `{"attribute":"branch","values":[]}`)
	lists := decode[api.Lists](t, r.do("GET", api.ListsPath, ""))
	require.Equal(t, []api.ListInfo{
		{Name: "pilot-tellers", Attribute: "teller", Values: 2, UsedBy: []string{"counter/pilot-tellers"}},
		{Name: "空名单", Attribute: "branch", Values: 0, UsedBy: []string{}},
	}, lists.Lists)
	organisations := decode[api.Organisations](t, r.do("GET", api.OrganisationsPath, ""))
	require.Equal(t, []api.OrganisationInfo{
		{LegalEntity: "9001", Branches: 4, UsedBy: []string{"counter/pilot-branches"}},
	}, organisations.Organisations)

	got := r.do("DELETE", api.ListPath("空名单"), "", "If-Match", `"4"`)
	require.Equal(t, http.StatusOK, got.status, "%s", got.body)
	require.Equal(t, `"5"`, got.header.Get("ETag"))
}

func TestListsAndOrganisationsInEveryForm(t *testing.T) {
	t.Parallel()
	r := newBank(t)
	for _, c := range []struct{ path, sent, contentType, form, want string }{
		{api.ListPath("a") + "?attribute=teller", "legalEntity,teller\n9001,0002\n9001,0001\n9001,0001\n", api.CSV, api.CSV,
			"teller\n9001/0001\n9001/0002\n"},
		{api.ListPath("a"), `{"attribute":"teller","values":["9001/0002","9001/0001"]}`, api.JSON, api.JSON,
			`{"attribute":"teller","values":["9001/0001","9001/0002"]}`},
		{api.OrganisationPath("9002"), "2,1,支行\n1,,\n", api.CSV, api.JSON,
			`{"branches":[{"code":"1"},{"code":"2","parent":"1","name":"支行"}]}`},
		{api.OrganisationPath("9002"), `{"branches":[{"code":"1"}]}`, api.JSON, api.CSV, "code,parent,name\n1,,\n"},
	} {
		result := r.put(c.path, c.contentType, c.sent)
		if strings.Contains(c.sent, "9001,0001\n9001,0001") {
			require.Equal(t, "1 line occurs more than once and was merged", result.Warnings[0].Message)
		}
		path, _, _ := strings.Cut(c.path, "?")
		got := r.do("GET", path, "", "Accept", c.form)
		require.Equal(t, c.form, got.header.Get("Content-Type"))
		require.Equal(t, r.etag(), got.header.Get("ETag"))
		require.Equal(t, strings.TrimSpace(c.want), strings.TrimSpace(string(got.body)))
	}
	got := r.do("DELETE", api.OrganisationPath("9002"), "", "If-Match", r.etag())
	require.Equal(t, http.StatusOK, got.status, "%s", got.body)
}

// TestMillionValues sends a long list up and takes it down again over a real connection.
func TestMillionValues(t *testing.T) {
	n := 1_000_000
	if raceDetector {
		n = 200_000
	}
	r := newReplica(t)
	base := r.listen()
	up, in := io.Pipe()
	go func() {
		w := bufio.NewWriter(in)
		for i := range n {
			fmt.Fprintf(w, "9001/%07d\n", i)
		}
		_ = in.CloseWithError(w.Flush())
	}()
	begun := time.Now()
	request, err := http.NewRequestWithContext(t.Context(), "PUT", base+api.ListPath("all")+"?attribute=teller", up)
	require.NoError(t, err)
	request.Header.Set("Content-Type", api.CSV)
	request.Header.Set("If-Match", `"0"`)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode, "%s", body)
	t.Logf("%d values up in %s", n, time.Since(begun))

	begun = time.Now()
	request, err = http.NewRequestWithContext(t.Context(), "GET", base+api.ListPath("all"), nil)
	require.NoError(t, err)
	request.Header.Set("Accept", api.CSV)
	response, err = http.DefaultClient.Do(request)
	require.NoError(t, err)
	lines := bufio.NewScanner(response.Body)
	require.True(t, lines.Scan())
	require.Equal(t, "teller", lines.Text())
	count := 0
	for lines.Scan() {
		if want := fmt.Sprintf("9001/%07d", count); lines.Text() != want {
			require.Equal(t, want, lines.Text())
		}
		count++
	}
	require.NoError(t, lines.Err())
	require.NoError(t, response.Body.Close())
	require.Equal(t, n, count)
	t.Logf("%d values down in %s", n, time.Since(begun))
	http.DefaultClient.CloseIdleConnections()
}

// listen serves r on a real listener until the test ends and returns its URL.
func (r *replica) listen() string {
	require.NoError(r.t, r.server.Listen())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.server.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		require.NoError(r.t, <-ended)
	})
	return "http://" + r.server.Addr().String()
}

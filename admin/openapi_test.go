package admin_test

import (
	"net/http"
	"net/netip"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"tellergate/admin"
	"tellergate/admin/api"
)

// TestOpenAPI compares what the handlers describe with docs/openapi.yaml. Renew: go test ./admin -run OpenAPI -update.
func TestOpenAPI(t *testing.T) {
	const path = "../docs/openapi.yaml"
	server, err := admin.New(admin.Options{Address: netip.MustParseAddrPort("127.0.0.1:0"),
		Schema: schema, Metrics: http.NotFoundHandler(), Log: zap.NewNop()})
	require.NoError(t, err)
	r := &replica{t: t, handler: server.Handler()}
	got := r.do("GET", api.OpenAPIPath+".yaml", "")
	require.Equal(t, http.StatusOK, got.status)
	if *update {
		require.NoError(t, os.WriteFile(path, got.body, 0o644))
	}
	require.Equal(t, read(t, path), string(got.body), "docs/openapi.yaml is out of date: run make generate")
	require.Equal(t, http.StatusOK, r.do("GET", api.OpenAPIPath+".json", "").status)
}

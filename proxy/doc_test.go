package proxy

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// docs/http.md says only what cases and tests show: each that it names exists, each code it names is one with that
// status, and every code that a request's form can bring about is in it.
func TestHTTPDocument(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/http.md")
	require.NoError(t, err)
	var names []string
	for _, c := range allCases() {
		names = append(names, c.name)
	}
	require.Greater(t, len(names), 600)
	for _, m := range regexp.MustCompile("`(91[0-9]+-[^`]*)`").FindAllStringSubmatch(string(text), -1) {
		found := false
		for _, name := range names {
			found = found || strings.HasPrefix(name, m[1])
		}
		require.True(t, found, "no case is called %q", m[1])
	}
	source, err := exec.Command("sh", "-c", "cat *_test.go */*_test.go").Output()
	require.NoError(t, err)
	for _, m := range regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1) {
		require.True(t, strings.Contains(string(source), "func "+m[1]+"("), "no test is called %s", m[1])
	}
	for _, no := range refusals {
		written := regexp.MustCompile(fmt.Sprintf("([0-9]{3}) `%s`", no.code)).FindAllStringSubmatch(string(text), -1)
		for _, m := range written {
			require.Equal(t, fmt.Sprint(no.status), m[1], no.code)
		}
	}
	for _, no := range []*refusal{&badRequest, &ambiguousPath, &requestBody, &methodNotAllowed, &requestTimeout, &bodyTooLarge,
		&expectationFailed, &headerTooLarge, &notImplemented, &versionNotSupported, &tooManyConnections, &upstreamInvalid} {
		require.Contains(t, string(text), fmt.Sprintf("%d `%s`", no.status, no.code))
	}
}

package strictyaml

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkDecode reads 10,000 elements of three keys each, once as people write them and once as programs do.
func BenchmarkDecode(b *testing.B) {
	var asYAML, asJSON strings.Builder
	asYAML.WriteString("items:\n")
	asJSON.WriteString(`{"items":[`)
	for i := range 10_000 {
		fmt.Fprintf(&asYAML, "  - name: rule-%d\n    weight: %d\n    tags: [\"0012\", b]\n", i, i)
		fmt.Fprintf(&asJSON, `{"name":"rule-%d","weight":%d,"tags":["0012","b"]},`, i, i)
	}
	asJSON.WriteString("{}]}")
	for name, text := range map[string]string{"yaml": asYAML.String(), "json": asJSON.String()} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				var o outer
				if _, problems := Decode([]byte(text), &o); len(problems) > 0 {
					b.Fatal(problems)
				}
			}
		})
	}
}

package report

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// Chart draws, for each scenario that has them, the medians of CPU per request as bars with their spread.
func (r *Report) Chart() string {
	const (
		width, left, right = 760, 230, 90
		bar, gap, head     = 16, 4, 34
		plot               = width - left - right
	)
	cpu := Metrics[0]
	var body strings.Builder
	y := 10
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		longest := 0.0
		for _, name := range s.Names {
			if f := s.Figure(cpu, name); f.Count > 0 {
				longest = max(longest, f.High)
			}
		}
		if longest == 0 {
			continue
		}
		y += 14
		fmt.Fprintf(&body, `<text x="8" y="%d" class="title">%s: %s, %s</text>`+"\n", y, escape(s.Title), cpu.Title, cpu.Unit)
		y += head - 24
		for _, name := range s.Names {
			f := s.Figure(cpu, name)
			fmt.Fprintf(&body, `<text x="%d" y="%d" class="name">%s</text>`+"\n", left-8, y+bar-4, escape(name))
			if f.Count == 0 {
				fmt.Fprintf(&body, `<text x="%d" y="%d" class="none">not measurable on this machine</text>`+"\n", left, y+bar-4)
				y += bar + gap
				continue
			}
			class := "other"
			if name == s.Subject {
				class = "subject"
			}
			at := func(v float64) int { return left + int(v/longest*plot) }
			fmt.Fprintf(&body, `<rect x="%d" y="%d" width="%d" height="%d" class="%s"/>`+"\n", left, y, at(f.Median)-left, bar, class)
			fmt.Fprintf(&body, `<path d="M%d %d H%d" class="spread"/>`+"\n", at(f.Low), y+bar/2, at(f.High))
			fmt.Fprintf(&body, `<text x="%d" y="%d" class="value">%s</text>`+"\n", at(f.High)+6, y+bar-4, figure(f.Median))
			y += bar + gap
		}
		y += 12
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d">
<style>
text { font: 12px sans-serif; fill: #222 } .title { font-weight: bold } .name { text-anchor: end } .none { fill: #888; font-style: italic }
.subject { fill: #0b6e4f } .other { fill: #9db4c0 } .spread { stroke: #222; stroke-width: 1.5 }
</style>
<rect width="100%%" height="100%%" fill="#fff"/>
`, width, y, width, y) + body.String() + "</svg>\n"
}

func escape(s string) string {
	var b strings.Builder
	// A Builder takes everything.
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}

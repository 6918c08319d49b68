// SPDX-License-Identifier: Apache-2.0

package timeline

import (
	"encoding/xml"
	"fmt"
	"strings"
	"time"
)

// Measures of the picture in pixels.
const (
	svgWidth  = 960
	svgMargin = 24
	// labels are right-aligned against labelRight, bars lie between plotLeft and plotRight.
	labelRight = 216
	plotLeft   = 228
	plotRight  = svgWidth - 84
	rowHeight  = 22
	barHeight  = 14
	groupGap   = 26
	headHeight = 92
	footHeight = 64
	// charWidth is what a character of the 12 px font takes at most.
	charWidth = 7
)

// The picture follows the reader's colour scheme. Hues differ in lightness too, so that the
// groups stay apart in grey.
const svgStyle = `
  .bg{fill:#ffffff} .edge{fill:none;stroke:#d0d7de} .grid{stroke:#d8dee4;stroke-width:1}
  text{font:12px ui-sans-serif,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;fill:#24292f;paint-order:stroke;stroke:#ffffff;stroke-width:3px;stroke-linejoin:round}
  .title{font-size:18px;font-weight:600} .soft{fill:#57606a} .head{font-weight:600} .end{text-anchor:end} .mid{text-anchor:middle}
  .boot{fill:#8c959f} .ignition{fill:#bf8700} .phase{fill:#0969da} .checked{fill:#0969da;fill-opacity:.35} .failed{fill:#cf222e}
  .moment{fill:#8250df} .ready{stroke:#1a7f37;stroke-width:2}
  .readyText{fill:#1a7f37;font-weight:600}
  @media (prefers-color-scheme:dark){
    .bg{fill:#0d1117} .edge{stroke:#30363d} .grid{stroke:#21262d} text{fill:#e6edf3;stroke:#0d1117} .soft{fill:#8d96a0}
    .boot{fill:#6e7681} .ignition{fill:#d29922} .phase{fill:#4493f8} .checked{fill:#4493f8;fill-opacity:.35} .failed{fill:#f85149}
    .moment{fill:#ab7df8} .ready{stroke:#3fb950} .readyText{fill:#3fb950}
  }
`

// picture draws one timeline.
type picture struct {
	strings.Builder
	t     *Timeline
	scale float64 // pixels per nanosecond
	y     int
}

// SVG renders the timeline as a picture of its own, without scripts, fonts or links.
func (t *Timeline) SVG() []byte {
	p := &picture{t: t}
	step := axisStep(t.End())
	end := (t.End() + step - 1) / step * step
	p.scale = float64(plotRight-plotLeft) / float64(max(end, step))
	height := p.height()
	fmt.Fprintf(p, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n", svgWidth, height, svgWidth, height, escape(t.headline()))
	fmt.Fprintf(p, "<style>%s</style>\n", svgStyle)
	fmt.Fprintf(p, `<rect class="bg" width="%d" height="%d" rx="8"/><rect class="edge" x=".5" y=".5" width="%d" height="%d" rx="8"/>`+"\n", svgWidth, height, svgWidth-1, height-1)
	p.text(svgMargin, 36, "title", t.headline())
	p.text(svgMargin, 58, "soft", t.Machine)
	p.axis(step, end, height-footHeight)
	p.ready(height - footHeight) // first, so that texts lie over its line
	p.spans()
	p.moments()
	p.legend(height - 22)
	p.WriteString("</svg>\n")
	return []byte(p.String())
}

func (t *Timeline) headline() string {
	if t.Ready == 0 {
		return t.Title
	}
	return fmt.Sprintf("%s: Ready in %.1f s", t.Title, t.Ready.D().Seconds())
}

func (p *picture) height() int {
	h := headHeight + footHeight
	var group Group
	for _, s := range p.t.Spans {
		if s.Group != group {
			group = s.Group
			h += groupGap
		}
		h += rowHeight
	}
	if n := len(p.t.Moments); n > 0 {
		h += groupGap + n*rowHeight
	}
	return h
}

// axisStep is the distance of grid lines: at most 12 of them.
func axisStep(total time.Duration) time.Duration {
	for _, step := range []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
		5 * time.Second, 10 * time.Second, 20 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute} {
		if total <= 12*step {
			return step
		}
	}
	return total/12 + 1
}

func (p *picture) x(at time.Duration) float64 { return plotLeft + float64(at)*p.scale }

func (p *picture) axis(step, end time.Duration, bottom int) {
	for at := time.Duration(0); at <= end; at += step {
		fmt.Fprintf(p, `<line class="grid" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, p.x(at), p.x(at), headHeight, bottom)
		p.text(int(p.x(at)), bottom+16, "soft mid", shortSeconds(at)+" s")
	}
}

func shortSeconds(d time.Duration) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f", d.Seconds()), ".0")
}

func (p *picture) spans() {
	p.y = headHeight
	var group Group
	for _, s := range p.t.Spans {
		if s.Group != group {
			group = s.Group
			p.y += groupGap
			p.text(svgMargin, p.y-8, "head", group.Title())
		}
		p.span(s)
		p.y += rowHeight
	}
}

func (p *picture) span(s Span) {
	class := string(s.Group)
	switch s.Note {
	case "checked", "failed":
		class = s.Note
	}
	x, width := p.x(s.Start.D()), max(2, float64(s.Took())*p.scale)
	top := p.y + (rowHeight-barHeight)/2
	base := p.y + rowHeight/2 + 4
	fmt.Fprintf(p, `<g><title>%s</title>`, escape(fmt.Sprintf("%s: %.2f s to %.2f s", s.Name, s.Start.D().Seconds(), s.End.D().Seconds())))
	fmt.Fprintf(p, `<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d" rx="2"/>`, class, x, top, width, barHeight)
	p.text(labelRight, base, "end", s.Name)
	took := fmt.Sprintf("%.2f s", s.Took().Seconds())
	if s.Note != "" {
		took += " " + s.Note
	}
	// Beside the bar, on the side that has room.
	if right := x + width + 6; right+float64(len(took)*charWidth) < svgWidth-svgMargin {
		p.text(int(right), base, "soft", took)
	} else {
		p.text(int(x)-6, base, "soft end", took)
	}
	p.WriteString("</g>\n")
}

// moments are rows of their own, each with a diamond where it happened.
func (p *picture) moments() {
	if len(p.t.Moments) == 0 {
		return
	}
	p.y += groupGap
	p.text(svgMargin, p.y-8, "head", "Moments")
	for _, m := range p.t.Moments {
		x, middle := p.x(m.At.D()), float64(p.y+rowHeight/2)
		const r = 5
		fmt.Fprintf(p, `<path class="moment" d="M%.1f %.1fl%d %dl-%d %dl-%d -%dz"/>`, x, middle-r, r, r, r, r, r, r)
		p.text(labelRight, p.y+rowHeight/2+4, "end", m.Name)
		at := fmt.Sprintf("%.1f s", m.At.D().Seconds())
		if right := x + 12; right+float64(len(at)*charWidth) < svgWidth-svgMargin {
			p.text(int(right), p.y+rowHeight/2+4, "soft", at)
		} else {
			p.text(int(x)-12, p.y+rowHeight/2+4, "soft end", at)
		}
		p.WriteString("\n")
		p.y += rowHeight
	}
}

// ready marks the end of it all through every row.
func (p *picture) ready(bottom int) {
	if p.t.Ready == 0 {
		return
	}
	x := p.x(p.t.Ready.D())
	fmt.Fprintf(p, `<line class="ready" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, x, x, headHeight-4, bottom)
	name := fmt.Sprintf("Ready %.1f s", p.t.Ready.D().Seconds())
	half := float64(len(name)*charWidth) / 2
	p.text(int(min(max(x, plotLeft+half), svgWidth-svgMargin-half)), headHeight-10, "readyText mid", name)
}

func (p *picture) legend(y int) {
	x := plotLeft
	for _, g := range groups {
		if !p.has(g) {
			continue
		}
		name := map[Group]string{Boot: "boot stage", Ignition: "Ignition stage", Phase: "first-boot phase"}[g]
		fmt.Fprintf(p, `<rect class="%s" x="%d" y="%d" width="12" height="12" rx="2"/>`, g, x, y-10)
		p.text(x+18, y, "soft", name)
		x += 18 + len(name)*charWidth + 24
	}
	if len(p.t.Moments) > 0 {
		fmt.Fprintf(p, `<path class="moment" d="M%d %dl5 5l-5 5l-5 -5z"/>`, x+6, y-9)
		p.text(x+18, y, "soft", "moment")
	}
}

func (p *picture) has(g Group) bool {
	for _, s := range p.t.Spans {
		if s.Group == g {
			return true
		}
	}
	return false
}

func (p *picture) text(x, y int, class, s string) {
	fmt.Fprintf(p, `<text class="%s" x="%d" y="%d">%s</text>`, class, x, y, escape(s))
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder does not fail
	return b.String()
}

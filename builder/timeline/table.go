// SPDX-License-Identifier: Apache-2.0

package timeline

import (
	"fmt"
	"strings"
	"time"
)

// barWidth is the width of the table's bars in characters.
const barWidth = 40

// Table renders the timeline as text of at most 100 columns.
func (t *Timeline) Table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n\n", t.Title, t.Machine)
	fmt.Fprintf(&b, "%8s %8s  %s\n", "START", "TOOK", "WHAT")
	total := t.End()
	var group Group
	for _, s := range t.Spans {
		if s.Group != group {
			group = s.Group
			fmt.Fprintf(&b, "%17s  %s\n", "", group.Title())
		}
		name := "  " + s.Name
		if s.Note != "" {
			name += " (" + s.Note + ")"
		}
		fmt.Fprintf(&b, "%8s %8s  %-28s |%s|\n", secs(s.Start.D()), secs(s.Took()), name, bar(s, total))
	}
	if len(t.Moments) > 0 {
		fmt.Fprintf(&b, "%17s  %s\n", "", "Moments")
	}
	for _, m := range t.Moments {
		fmt.Fprintf(&b, "%8s %8s    %s\n", secs(m.At.D()), "", m.Name)
	}
	if t.Ready > 0 {
		fmt.Fprintf(&b, "%8s %8s  Ready\n", secs(t.Ready.D()), "")
	}
	return b.String()
}

func bar(s Span, total time.Duration) string {
	if total <= 0 {
		return strings.Repeat(" ", barWidth)
	}
	at := func(d time.Duration) int { return int(d * barWidth / total) }
	from := min(at(s.Start.D()), barWidth-1)
	to := min(max(at(s.End.D()), from+1), barWidth)
	return strings.Repeat(" ", from) + strings.Repeat("#", to-from) + strings.Repeat(" ", barWidth-to)
}

func secs(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

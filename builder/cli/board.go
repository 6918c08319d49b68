// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/imgbuild/imgbuild/builder/vm"
)

// minColumn is the narrowest column that still says something, in characters.
const minColumn = 24

// board shows what several hosts do: a column for each on a terminal that is wide enough, else
// a line per event that begins with the host's name. Lines are only ever appended, so nothing
// is lost by scrolling or by writing to a file.
type board struct {
	w      io.Writer
	hosts  []string
	longer int // the longest name
	column int // 0 for plain lines
}

func newBoard(w io.Writer, hosts []vm.FleetHost, width int) *board {
	b := &board{w: w}
	for _, h := range hosts {
		b.hosts = append(b.hosts, h.Name)
		b.longer = max(b.longer, len(h.Name))
	}
	if len(hosts) > 1 && width/len(hosts) >= minColumn {
		b.column = width / len(hosts)
		b.row(func(i int) string { return b.hosts[i] })
		b.row(func(int) string { return strings.Repeat("-", b.column-3) })
	}
	return b
}

// event shows an event of a host, or of the whole cluster where host is empty. A reason or a
// remark that its column has no room for follows in full.
func (b *board) event(host string, e vm.Event) {
	var out bytes.Buffer
	printEvent(&out, e)
	text := strings.TrimRight(out.String(), "\n")
	if cut := b.show(host, text); cut && (e.Reason != "" || e.Kind == vm.Noted) {
		b.plain(host, text)
	}
}

// line shows a console line.
func (b *board) line(host string, l vm.Line) {
	b.plain(host, fmt.Sprintf("%6.1f  %s", l.At.Seconds(), l.Text))
}

// show says whether it had to cut the text.
func (b *board) show(host, text string) (cut bool) {
	if b.column == 0 || host == "" {
		b.plain(host, text)
		return false
	}
	return b.row(func(i int) string {
		if b.hosts[i] == host {
			return text
		}
		return ""
	})
}

func (b *board) plain(host, text string) {
	if host == "" {
		host = "*"
	}
	fmt.Fprintf(b.w, "%-*s %s\n", b.longer, host, text)
}

// row writes a row of cells, cut to their columns; it says whether one was.
func (b *board) row(cell func(int) string) (cut bool) {
	var line strings.Builder
	for i := range b.hosts {
		text := []rune(strings.Join(strings.Fields(cell(i)), " "))
		if limit := b.column - 2; len(text) > limit {
			text, cut = append(text[:limit-1], '…'), true
		}
		fmt.Fprintf(&line, "%-*s", b.column, string(text))
	}
	fmt.Fprintln(b.w, strings.TrimRight(line.String(), " "))
	return cut
}

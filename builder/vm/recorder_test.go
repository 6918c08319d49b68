// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"strings"
	"testing"
	"time"
)

// TestTimeline replays a console and expects the table it amounts to.
func TestTimeline(t *testing.T) {
	r := &Recorder{Title: "node", Machine: "TCG"}
	for _, l := range []struct {
		ms   int
		text string
	}{
		{1900, `BdsDxe: starting Boot0001 "UEFI Misc Device"`},
		{4100, "[    0.000000] Linux version 6.12"}, // printed late, when the console came up
		{4150, "[    1.150000] something"},
		{6600, "[    3.500000] Run /init as init process"},
		{8050, "imgbuild: mark ignition-disks t=5.0s"},
		{9550, "imgbuild: mark ignition-files t=6.5s"},
		{10050, "imgbuild: mark ignition-done t=7.0s"},
		{12050, "imgbuild: mark switch-root t=9.0s"},
		{15020, "imgbuild: start cp-1 role control-plane t=12.0s"},
		{15030, "imgbuild: phase preflight checked 0.01s (t=12.0s)"},
		{15530, "imgbuild: phase certs ok 0.50s (t=12.5s)"},
		{20020, "imgbuild: phase addons retrying 1.00s (t=17.0s): busy"},
		{21020, "imgbuild: phase addons ok 2.00s (t=18.0s)"},
		{21120, "imgbuild: mark node-registered t=18.1s"},
		{22020, "imgbuild: node cp-1 Ready t=19.0s"},
	} {
		r.Line(Line{At: time.Duration(l.ms) * time.Millisecond, Text: l.text})
	}
	r.Event(Event{Kind: APIAnswered, At: 18 * time.Second})
	r.Event(Event{Kind: Noted, At: 50 * time.Second})
	r.Event(Event{Kind: ReadySeen, At: 22100 * time.Millisecond})
	var got []string
	for _, l := range strings.Split(r.Timeline().Table(), "\n")[3:] {
		l, _, _ = strings.Cut(l, "|")
		got = append(got, strings.TrimRight(l, " "))
	}
	want := strings.Split(`   START     TOOK  WHAT
                   Boot
  0.00 s   1.90 s    firmware
  1.90 s   1.10 s    boot loader
  3.00 s   3.50 s    kernel
  6.50 s   5.55 s    initrd
 12.05 s   2.97 s    system
 15.02 s   7.08 s    first boot
                   Ignition
  8.05 s   1.50 s    disks
  9.55 s   0.50 s    files
                   First boot
 15.02 s   0.01 s    preflight (checked)
 15.03 s   0.50 s    certs
 19.02 s   2.00 s    addons
                   Moments
 18.00 s             API answers the host
 21.12 s             node-registered
 22.10 s           Ready
`, "\n")
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	r.Reset()
	if n := len(r.Timeline().Spans); n != 1 {
		t.Errorf("%d spans after Reset", n)
	}
}

// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"os"
	"regexp"
	"slices"
	"testing"
	"time"
)

func TestFailures(t *testing.T) {
	const (
		breakpoint = "[    5.199662] Oops: int3: 0000 [#2] PREEMPT SMP NOPTI"
		otherOops  = "[    5.199662] Oops: general protection fault: 0000 [#1] PREEMPT SMP NOPTI"
		panicked   = "[    5.200474] Kernel panic - not syncing: Fatal exception in interrupt"
		failed     = "imgbuild: node cp-1 failed t=48.2s: phase certs: no"
		stopped    = "imgbuild: this machine cannot start. Failed units:"
		explained  = "imgbuild: stopped. Correct the cause and restart the machine."
		booted     = "" // the machine was reset
	)
	cases := map[string]struct {
		accel Accel
		lines []string
		want  []Verdict
	}{
		"panic":                     {TCG, []string{panicked}, []Verdict{Ended}},
		"no init":                   {TCG, []string{stopped, explained}, []Verdict{Ended, Ended}},
		"third attempt":             {TCG, []string{failed, failed, failed}, []Verdict{GoesOn, GoesOn, Ended}},
		"attempts of another boot":  {TCG, []string{failed, failed, booted, failed, failed, failed}, []Verdict{GoesOn, GoesOn, GoesOn, GoesOn, Ended}},
		"stale breakpoint":          {TCG, []string{breakpoint, panicked}, []Verdict{GoesOn, Restarts}},
		"breakpoint before another": {TCG, []string{breakpoint, otherOops, panicked}, []Verdict{GoesOn, GoesOn, Restarts}},
		"other oops":                {TCG, []string{otherOops, panicked}, []Verdict{GoesOn, Ended}},
		"breakpoint under KVM":      {KVM, []string{breakpoint, panicked}, []Verdict{GoesOn, Ended}},
		"breakpoint of another boot": {TCG, []string{breakpoint, booted, panicked},
			[]Verdict{GoesOn, Ended}},
		"second time": {TCG, []string{breakpoint, panicked, booted, breakpoint, panicked},
			[]Verdict{GoesOn, Restarts, GoesOn, Ended}},
	}
	for name, c := range cases {
		var f Failures
		var got []Verdict
		for _, text := range c.lines {
			if text == booted {
				f.Rebooted()
				continue
			}
			e, ok := ParseLine(Line{Text: text})
			if !ok {
				t.Fatalf("%s: %q is not recognised", name, text)
			}
			got = append(got, f.Judge(e, c.accel))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

// A boot that the initrd ended is over when its report is, however slow the machine is; the
// script that makes the report has these lines.
func TestReportOfTheInitrd(t *testing.T) {
	script, err := os.ReadFile("../../assets/initrd/report-failure")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`echo "(imgbuild: [^"$]*)"`).FindAllSubmatch(script, -1)
	if len(lines) < 2 {
		t.Fatalf("the script says %q", lines)
	}
	at := map[Kind]time.Duration{}
	for i, l := range [][][]byte{lines[0], lines[len(lines)-1]} {
		e, ok := ParseLine(Line{Text: string(l[1])})
		if !ok || e.Kind != []Kind{CannotStart, Explained}[i] {
			t.Errorf("%s is %q", l[1], e.Kind)
		}
		at[e.Kind] = lastWords(e)
	}
	if at[Explained] != 0 || at[CannotStart] < 30*time.Second {
		t.Errorf("after %v", at)
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/test/vip/lab"
)

// results is what go test -json prints about tests of package p that say something and end.
func results(t *testing.T, ends ...[3]string) string {
	t.Helper()
	var b strings.Builder
	for _, e := range ends {
		events := []event{{"run", "p", e[0], ""}, {"output", "p", e[0], "=== RUN   " + e[0] + "\n"}}
		for line := range strings.Lines(e[1]) {
			events = append(events, event{"output", "p", e[0], line})
		}
		events = append(events, event{"output", "p", e[0], "--- " + e[2] + ": " + e[0] + " (0.00s)\n"}, event{e[2], "p", e[0], ""})
		for _, ev := range events {
			text, err := json.Marshal(ev)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(append(text, '\n'))
		}
	}
	return b.String()
}

func TestSum(t *testing.T) {
	passed := [3]string{"TestA", "", "pass"}
	net := "    vip_test.go:54: " + lab.ErrPrivilege.Error() + ": operation not permitted\n"
	for name, c := range map[string]struct {
		text    string
		allowed bool
		good    bool
		last    string
		says    string
	}{
		"nothing ran": {"", false, false, "0 passed, 0 failed, 0 skipped", ""},
		"all pass":    {results(t, passed), false, true, "1 passed, 0 failed, 0 skipped", ""},
		"one fails":   {results(t, passed, [3]string{"TestB", "", "fail"}), false, false, "1 passed, 1 failed, 0 skipped", "failed: p TestB"},
		"one says why": {results(t, [3]string{"TestB", strings.Repeat("    a_test.go:7: on its way\n", 4) + "    b_test.go:9: a reason\n        and more\n" + strings.Repeat("    a_test.go:7: on its way\n", 4), "fail"}), false, false,
			"failed: p TestB\n    b_test.go:9: a reason\n0 passed, 1 failed, 0 skipped", ""},
		"does not compile": {results(t, passed) + "a compiler's message\n" + `{"Action":"fail","Package":"q"}` + "\n", false, false, "1 passed, 1 failed, 0 skipped", "failed: q"},
		"a goroutine panics": {results(t, passed) + `{"Action":"output","Package":"q","Test":"TestC","Output":"panic: Fail in goroutine after TestC has completed\n"}` + "\n" +
			`{"Action":"output","Package":"q","Test":"TestC","Output":"\tq_test.go:57 +0xb9\n"}` + "\n" + `{"Action":"fail","Package":"q"}` + "\n", false, false,
			"    panic: Fail in goroutine after TestC has completed\n    \tq_test.go:57 +0xb9\nfailed: q \n1 passed, 1 failed, 0 skipped", ""},
		"one is not for here": {results(t, passed, [3]string{"TestB", "    a_test.go:1: not a git checkout\n", "skip"}), false, true, "1 passed, 0 failed, 1 skipped", ""},
		"no network namespaces": {results(t, passed, [3]string{"TestB", net, "skip"}), false, false, "1 passed, 1 failed, 0 skipped",
			"failed: p TestB was skipped: vip_test.go:54: network namespaces"},
		"no other root": {results(t, passed, [3]string{"TestB", "    k_test.go:95: this user may not change the root of a program here: x\n        what it printed\n", "skip"}), false, false,
			"1 passed, 1 failed, 0 skipped", "set " + allowVariable + "=1"},
		"that is allowed":         {results(t, passed, [3]string{"TestB", net, "skip"}), true, true, "1 passed, 0 failed, 1 skipped", ""},
		"said on the way":         {results(t, passed, [3]string{"TestB", net + "    vip_test.go:90: for another reason\n", "skip"}), false, true, "1 passed, 0 failed, 1 skipped", ""},
		"said by one that passed": {results(t, [3]string{"TestA", net, "pass"}), false, true, "1 passed, 0 failed, 0 skipped", ""},
	} {
		var out strings.Builder
		s := &sum{out: &out, allowed: c.allowed, counts: map[string]int{}}
		if err := s.add(strings.NewReader(c.text)); err != nil {
			t.Fatal(err)
		}
		if good := s.end(); good != c.good || !strings.HasSuffix(out.String(), c.last+"\n") || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: %v, %q", name, good, out.String())
		}
	}
}

// TestWording reads what tests elsewhere say when they are skipped for want of namespaces.
func TestWording(t *testing.T) {
	for file, want := range map[string]int{"builder/cli/space_test.go": 2, "firstboot/phases/kubeadm_integration_test.go": 1} {
		text, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "Skipf(") && wanting.MatchString(line) {
				got++
			}
		}
		if got != want {
			t.Errorf("%s: %d reasons to be skipped are known, not %d", file, got, want)
		}
	}
}

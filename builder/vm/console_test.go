// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe: loading": "BdsDxe: loading",
		"plain \t ":                                "plain",
		"\x1b[0;32m  OK  \x1b[0m done\r":           "  OK   done",
		"\x1b]0;title\x07x":                        "x",
		"\x1b]0;title\x1b\\x":                      "x",
		"a\x00b\x7f":                               "ab",
		"\x1b[!p\x1b]104\x07\x1b[?7h\x1bM":         "",
		"imgbuild: phase certs ok 0.12s (t=21.3s)": "imgbuild: phase certs ok 0.12s (t=21.3s)",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("\x1b[2Jx")
	f.Add("\x1b]0;")
	f.Fuzz(func(t *testing.T, s string) {
		if got := Clean(s); strings.ContainsAny(Clean(got), "\x00\x07\r") || len(got) > len(s) {
			t.Errorf("Clean(%q) = %q", s, got)
		}
	})
}

func TestConsoleLines(t *testing.T) {
	now := time.Unix(100, 0)
	var got []string
	c := &console{start: time.Unix(90, 0), now: func() time.Time { return now }, each: func(l Line) {
		if l.At != 10*time.Second {
			t.Errorf("line %q at %s", l.Text, l.At)
		}
		got = append(got, l.Text)
	}}
	long := strings.Repeat("x", maxLine+10)
	c.copy(iotest.OneByteReader(strings.NewReader("one\r\n\n\x1b[2J\ntwo\n" + long + "\ncut")))
	want := []string{"one", "two", long[:maxLine], long[maxLine+1:], "cut"}
	if !slices.Equal(got, want) {
		t.Errorf("%d lines, want %d: %.200q", len(got), len(want), got)
	}
	for i := range tailLines {
		c.copy(strings.NewReader(strings.Repeat("y", i+1)))
	}
	if last := c.last(); strings.Count(last, "\n") != tailLines-1 || strings.Contains(last, "two") {
		t.Errorf("the last lines are\n%s", last)
	}
}

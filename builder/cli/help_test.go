// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"slices"
	"strings"
	"testing"
)

// Every verb explains itself on standard output, with a sentence and the exact usage.
func TestHelp(t *testing.T) {
	top := run(t)
	top.want(t, 0)
	if same := run(t, "--help"); same.out != top.out || run(t, "help").out != top.out {
		t.Error("no arguments, --help and help differ")
	}
	for _, text := range []string{"docs/exit-codes.md", "imgbuild --profile controlplane", "--mirror", "--offline"} {
		if !strings.Contains(top.out, text) {
			t.Errorf("the help does not mention %q:\n%s", text, top.out)
		}
	}
	for _, verb := range [][]string{{"build"}, {"cache"}, {"cache", "prune"}, {"cache", "size"}, {"cache", "verify"}, {"cluster"}, {"cluster", "check"}, {"cluster", "init"}, {"cluster", "kubeconfig"}, {"cluster", "render"}, {"component"}, {"inspect"},
		{"lock"}, {"plan"}, {"profiles"}, {"run"}, {"tool"}, {"tool", "path"}, {"tool", "run"}, {"version"}, {"completion", "bash"}} {
		t.Run(strings.Join(verb, " "), func(t *testing.T) {
			o := run(t, append(verb, "--help")...)
			o.want(t, 0)
			if first, _, _ := strings.Cut(o.out, "\n"); len(first) < 10 || len(first) > 100 || o.stderr != "" {
				t.Errorf("the first line is %q; standard error %q", first, o.stderr)
			}
			if usage := "imgbuild " + strings.Join(verb, " "); !strings.Contains(o.out, "Usage:\n  "+usage) {
				t.Errorf("no usage of %q:\n%s", usage, o.out)
			}
		})
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, c := range []struct {
		args, want []string
	}{
		{[]string{"build", "--profile", ""}, []string{"node"}},
		{[]string{"--profile", "n"}, []string{"node"}},
		{[]string{"plan", "--progress", ""}, []string{"auto", "bars", "plain", "none"}},
		{[]string{"plan", "--arch", ""}, []string{"amd64", "arm64"}},
		{[]string{"run", "--accel", ""}, []string{"auto", "kvm", "tcg"}},
		{[]string{"component", ""}, []string{"pause"}},
		{[]string{"profiles", ""}, []string{"base", "node"}},
		{[]string{"insp"}, []string{"inspect"}},
	} {
		o := run(t, slices.Concat([]string{"__complete", "--source", s.Dir}, c.args)...)
		var got []string
		for line := range strings.Lines(o.out) {
			if word, _, _ := strings.Cut(strings.TrimSpace(line), "\t"); !strings.HasPrefix(word, ":") {
				got = append(got, word)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q completes to %q, want %q\n%s", c.args, got, c.want, o.stderr)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if o := run(t, "completion", shell); o.status != 0 || !strings.Contains(o.out, "imgbuild") {
			t.Errorf("completion %s: status %d\n%s", shell, o.status, o.stderr)
		}
	}
}

func TestProgressNone(t *testing.T) {
	t.Parallel()
	s := newSite(t).warm(t)
	if o := s.build(t, "--progress", "none"); o.stderr != "" {
		t.Errorf("--progress none wrote:\n%s", o.stderr)
	}
	s.Write(t, "assets/node.conf", "other\n")
	if o := s.build(t, "--progress", "bars"); !strings.Contains(o.out, "root hash") {
		t.Errorf("after bars the result is:\n%s", o.out)
	}
}

func TestListings(t *testing.T) {
	t.Parallel()
	s := newSite(t).warm(t)
	s.build(t)
	for _, c := range []struct {
		args, want []string
	}{
		{[]string{"profiles"}, []string{"base (abstract)", "node", "the smallest image"}},
		{[]string{"profiles", "node"}, []string{"delivery: verity", "- base-files", "- hello", "id: testnode"}},
		{[]string{"component"}, []string{"pause\n"}},
		{[]string{"component", "pause"}, []string{s.cache, "/pause\n"}},
		{[]string{"tool", "path", "kmod"}, []string{s.cache + "/entries/"}},
		{[]string{"tool", "run", "kmod", "kmod", "--version"}, []string{"kmod version"}},
		{[]string{"cache", "size"}, []string{s.cache, " 6 blobs", "derived results", " 0 partial"}},
		{[]string{"cache", "verify"}, []string{" good, 0 dropped"}},
		{[]string{"cache", "prune", "--unused", "1h"}, []string{"freed 0 B"}},
		{[]string{"version"}, []string{"imgbuild "}},
	} {
		o := run(t, slices.Concat(s.flags(), c.args)...)
		o.want(t, 0)
		for _, text := range c.want {
			if !strings.Contains(o.out, text) {
				t.Errorf("%q does not print %q:\n%s", c.args, text, o.out)
			}
		}
	}
}

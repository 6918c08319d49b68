// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// inOrder looks for texts, one behind the other.
func inOrder(t *testing.T, text string, want ...string) {
	t.Helper()
	rest := text
	for _, w := range want {
		_, after, ok := strings.Cut(rest, w)
		if !ok {
			t.Errorf("no %q in this place of:\n%s", w, text)
			return
		}
		rest = after
	}
}

func next(r *Result) string { return strings.Join(r.Next, "\n") }

// A control plane leaves a member of etcd behind, which nobody else removes and which counts for
// the quorum: it goes while the machine runs, and one control plane at a time.
func TestRemovedControlPlane(t *testing.T) {
	dir := t.TempDir()
	rendered(t, parse(t, base), dir)
	r := rendered(t, parse(t, hostsOf("cp-1 cp-3 w-1")), dir)
	if len(r.Next) != 1 {
		t.Errorf("%q", r.Next)
	}
	inOrder(t, next(r), "remove control plane cp-2", "kubectl drain cp-2", "etcd member cp-2", "kubectl delete node cp-2", "switch it off")

	dir = t.TempDir()
	rendered(t, parse(t, base), dir)
	r = rendered(t, parse(t, hostsOf("cp-1 w-1")), dir)
	inOrder(t, next(r), "one after the other", "etcd member cp-2", "switch it off", "etcd member cp-3", "switch it off")
}

func TestAddedControlPlanes(t *testing.T) {
	dir := t.TempDir()
	rendered(t, parse(t, hostsOf("cp-1 w-1")), dir)
	r := rendered(t, parse(t, base), dir)
	inOrder(t, next(r), "one after the other", "wait each time", "boot control plane cp-2", "boot control plane cp-3")
	if strings.Contains(next(r), "w-1") {
		t.Error(next(r))
	}
	// What leaves may have what the new one takes: its address, its machine, its vote.
	r = rendered(t, parse(t, strings.ReplaceAll(base, "cp-2", "cp-9")), dir)
	inOrder(t, next(r), "one after the other", "remove control plane cp-2", "boot control plane cp-9", "with an empty disk and when cp-2 is gone")
	r = rendered(t, parse(t, strings.ReplaceAll(strings.ReplaceAll(base, "cp-2", "cp-9"), "w-1", "w-9")), dir)
	inOrder(t, next(r), "remove worker w-1", "switch it off", "boot worker w-9", "when w-1 is gone")
}

// A host is new when it was in no rendering, not when a file is.
func TestLostConfigIsNoNewHost(t *testing.T) {
	for _, lost := range [][]string{{"hosts/w-1.ign"}, {"hosts", "roles"}, {"hosts", IndexFile}} {
		dir := t.TempDir()
		rendered(t, parse(t, base), dir)
		for _, name := range lost {
			drop(t, dir, name)
		}
		r := rendered(t, parse(t, base), dir)
		if got := actions(r); got["hosts/w-1.ign"] != Added || len(r.Next) > 0 {
			t.Errorf("%v: %v, %q", lost, got, r.Next)
		}
	}
}

// A token that is not renewed may have ended.
func TestAdviceKnowsThatTokensEnd(t *testing.T) {
	for _, c := range []struct {
		join, mode string
		after      time.Duration
		want       string
	}{
		{"{renew: false, tokenTTL: 2h}", "shared", time.Hour, "it joins by itself"},
		{"{renew: false, tokenTTL: 2h}", "shared", 3 * time.Hour, "its token may have ended"},
		{"{renew: true, tokenTTL: 2h}", "shared", 3 * time.Hour, "it joins by itself"},
	} {
		dir := t.TempDir()
		text := strings.Replace(hostsOf("cp-1"), "hosts:\n", "join: "+c.join+"\nhosts:\n", 1)
		rendered(t, parse(t, text), dir)
		r, err := Render(t.Context(), parse(t, text+"- {name: w-9, role: worker, address: 192.0.2.29, network: {interface: eth0}}\n"), Options{Dir: dir, Now: now.Add(c.after)})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(next(r), "boot worker w-9") || !strings.Contains(next(r), c.want) {
			t.Errorf("%+v: %q", c, r.Next)
		}
	}
}

// The advice of a host whose certificates are waited for comes with its config, and the first
// rendering gives none: nothing is there to join.
func TestAdviceOfAnExternalAuthority(t *testing.T) {
	dir := t.TempDir()
	external := func(text string) *Source { return parse(t, strings.Replace(text, "mode: shared", "mode: external", 1)) }
	authority := newOffline(t, dir, now)
	boots := regexp.MustCompile(`boot \S+ ?\S* (w-1|cp-\d)`)
	authority.answer(t, dir, rendered(t, external(hostsOf("cp-1")), dir).Pending)
	if r := rendered(t, external(hostsOf("cp-1")), dir); boots.MatchString(next(r)) {
		t.Errorf("%q", r.Next)
	}
	r := rendered(t, external(hostsOf("cp-1 w-1")), dir)
	if boots.MatchString(next(r)) {
		t.Errorf("without a config: %q", r.Next)
	}
	authority.answer(t, dir, r.Pending)
	if r = rendered(t, external(hostsOf("cp-1 w-1")), dir); !slices.ContainsFunc(r.Next, boots.MatchString) {
		t.Errorf("%q", r.Next)
	}
}

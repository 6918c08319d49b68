// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func addresses(text string) []netip.Addr { return Announced(text) }

func TestAdmit(t *testing.T) {
	self := ControlPlane{Name: "cp-4", Addresses: addresses("192.0.2.14"), Ready: true}
	cp := func(edit func(*ControlPlane)) ControlPlane {
		c := ControlPlane{Name: "cp-1", Addresses: addresses("192.0.2.11"), Ready: true, Since: now.Add(-time.Hour), Peers: addresses("192.0.2.12,192.0.2.14")}
		edit(&c)
		return c
	}
	knows := cp(func(*ControlPlane) {})
	ignorant := cp(func(c *ControlPlane) { c.Name, c.Peers = "cp-2", addresses("192.0.2.11") })
	silent := cp(func(c *ControlPlane) { c.Name, c.Peers = "cp-2", nil })
	foreign := cp(func(c *ControlPlane) { c.Name, c.Peers, c.Foreign = "stock", nil, true })
	stumbled := cp(func(c *ControlPlane) { c.Name, c.Peers, c.Ready, c.Since = "cp-3", nil, false, now.Add(-9*time.Minute) })
	away := cp(func(c *ControlPlane) { c.Name, c.Peers, c.Ready, c.Since = "cp-3", nil, false, now.Add(-Away) })
	never := cp(func(c *ControlPlane) { c.Name, c.Peers, c.Ready, c.Since = "cp-3", nil, false, time.Time{} })
	renamed := cp(func(c *ControlPlane) { c.Name, c.Peers, c.Addresses = "old", nil, addresses("192.0.2.14") })
	elsewhere := cp(func(c *ControlPlane) { c.Name, c.Addresses = "cp-4", addresses("192.0.2.99") })
	unknown := cp(func(c *ControlPlane) { c.Name, c.Addresses = "cp-4", nil })
	for _, c := range []struct {
		name string
		all  []ControlPlane
		want Verdict
		why  string
	}{
		{"alone", []ControlPlane{self}, Admitted, ""},
		{"known to all", []ControlPlane{self, knows}, Admitted, ""},
		{"unknown to one", []ControlPlane{self, knows, ignorant}, Held, "cp-2 does not list this machine as a peer yet"},
		{"one says nothing", []ControlPlane{self, knows, silent}, Held, "cp-2 does not list"},
		{"one is none of ours", []ControlPlane{self, knows, foreign}, Admitted, ""},
		{"one is not Ready", []ControlPlane{self, knows, stumbled}, Held, "cp-3 does not list this machine as a peer and is not Ready; it is waited for until 2026-11-21T12:01:00Z"},
		{"one is away", []ControlPlane{self, knows, away}, Admitted, ""},
		{"one never reported", []ControlPlane{self, knows, never}, Admitted, ""},
		{"this machine had another name", []ControlPlane{self, knows, renamed}, Admitted, ""},
		{"another machine has the name", []ControlPlane{elsewhere, knows}, Expelled, "node cp-4 is at 192.0.2.99 and not at this machine's address 192.0.2.14"},
		{"its node has no address yet", []ControlPlane{unknown, knows}, Admitted, ""},
		{"not in the cluster", []ControlPlane{knows}, Expelled, "the cluster has no control plane cp-4 with the address 192.0.2.14"},
		{"nobody Ready is", []ControlPlane{away}, Unlisted, "does not list this machine as a control plane yet"},
		{"nobody at all", nil, Unlisted, "does not list this machine as a control plane yet"},
	} {
		got, why := Admit("cp-4", netip.MustParseAddr("192.0.2.14"), c.all, now)
		if got != c.want || !strings.Contains(strings.Join(why, "; "), c.why) || (len(why) == 0) != (c.why == "") {
			t.Errorf("%s: %d %q, want %d %q", c.name, got, why, c.want, c.why)
		}
	}
}

func TestAnnouncement(t *testing.T) {
	value := Announce(addresses("192.0.2.13,2001:db8::1,192.0.2.2"))
	if value != "192.0.2.2,192.0.2.13,2001:db8::1" {
		t.Error(value)
	}
	if got := Announced(" 192.0.2.2, nonsense,,::ffff:192.0.2.13"); !slices.Equal(got, addresses("192.0.2.2,192.0.2.13")) {
		t.Error(got)
	}
	if Announce(nil) != "" || Announced("") != nil {
		t.Error("nobody")
	}
}

func FuzzAnnounced(f *testing.F) {
	f.Add("192.0.2.2,192.0.2.13")
	f.Fuzz(func(t *testing.T, value string) {
		once := Announce(Announced(value))
		if again := Announce(Announced(once)); again != once {
			t.Errorf("%q, then %q", once, again)
		}
	})
}

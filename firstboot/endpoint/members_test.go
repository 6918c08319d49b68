// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// member is "name@address", or "name@address-HOURS" for one that is gone for so long.
func member(text string) Member {
	name, rest, _ := strings.Cut(text, "@")
	address, gone, isGone := strings.Cut(rest, "-")
	m := Member{Name: name, Address: netip.MustParseAddr(address)}
	if isGone {
		d, err := time.ParseDuration(gone)
		if err != nil {
			panic(err)
		}
		m.Gone = now.Add(-d)
	}
	return m
}

func members(text string) []Member {
	var out []Member
	for _, f := range strings.Fields(text) {
		out = append(out, member(f))
	}
	return out
}

func text(all []Member) string {
	var out []string
	for _, m := range all {
		s := m.Name + "@" + m.Address.String()
		if !m.Gone.IsZero() {
			s += fmt.Sprintf("-%.0fh", now.Sub(m.Gone).Hours())
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func TestMerge(t *testing.T) {
	for _, c := range []struct{ name, document, remembered, seen, want string }{
		{"nobody was asked", "a@192.0.2.1 b@192.0.2.2", "", "", "a@192.0.2.1 b@192.0.2.2"},
		{"nobody was asked, who is gone stays", "a@192.0.2.1", "c@192.0.2.3-900h", "", "a@192.0.2.1 c@192.0.2.3-900h"},
		{"one is new", "a@192.0.2.1", "", "a@192.0.2.1 b@192.0.2.2", "a@192.0.2.1 b@192.0.2.2"},
		{"one is gone", "", "a@192.0.2.1 b@192.0.2.2", "a@192.0.2.1", "a@192.0.2.1 b@192.0.2.2-0h"},
		{"one is gone for a while", "", "a@192.0.2.1 b@192.0.2.2-23h", "a@192.0.2.1", "a@192.0.2.1 b@192.0.2.2-23h"},
		{"one is gone for long", "", "a@192.0.2.1 b@192.0.2.2-24h", "a@192.0.2.1", "a@192.0.2.1"},
		{"the document keeps it", "b@192.0.2.2", "a@192.0.2.1 b@192.0.2.2-900h", "a@192.0.2.1", "a@192.0.2.1 b@192.0.2.2-900h"},
		{"of the document, not seen yet", "a@192.0.2.1 b@192.0.2.2", "", "a@192.0.2.1", "a@192.0.2.1 b@192.0.2.2-0h"},
		{"it came back", "", "a@192.0.2.1 b@192.0.2.2-900h", "a@192.0.2.1 b@192.0.2.2", "a@192.0.2.1 b@192.0.2.2"},
		{"gone in the future", "", "a@192.0.2.1 b@192.0.2.2--9h", "a@192.0.2.1", "a@192.0.2.1 b@192.0.2.2-0h"},
		{"addresses without names", "a@192.0.2.1", "b@192.0.2.2", "@192.0.2.1 @192.0.2.2 @192.0.2.3", "@192.0.2.3 a@192.0.2.1 b@192.0.2.2"},
		{"another name", "", "old@192.0.2.1", "new@192.0.2.1", "new@192.0.2.1"},
		{"another address", "a@192.0.2.1", "", "a@192.0.2.9", "a@192.0.2.1-0h a@192.0.2.9"},
	} {
		got := Merge(members(c.document), members(c.remembered), members(c.seen), now)
		if text(got) != c.want {
			t.Errorf("%s: %s, want %s", c.name, text(got), c.want)
		}
		if again := Merge(members(c.document), got, members(c.seen), now); text(again) != c.want {
			t.Errorf("%s, again: %s", c.name, text(again))
		}
	}
}

func TestPeers(t *testing.T) {
	got := Peers(members("@192.0.2.3 @2001:db8::1 a@192.0.2.1-1h a@192.0.2.9 b@192.0.2.2"))
	want := []node.Peer{{Name: "192.0.2.3", Address: "192.0.2.3"}, {Name: "2001-db8--1", Address: "2001:db8::1"}, {Name: "a", Address: "192.0.2.9"},
		{Name: "a-192.0.2.1", Address: "192.0.2.1"}, {Name: "b", Address: "192.0.2.2"}}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestDocument(t *testing.T) {
	got := Document([]node.Peer{{Name: "a", Address: "::ffff:192.0.2.1"}, {Name: "b", Address: "2001:db8::1"}})
	if text(got) != "a@192.0.2.1 b@2001:db8::1" {
		t.Error(text(got))
	}
}

func TestEncode(t *testing.T) {
	all := members("a@192.0.2.1 b@2001:db8::1-5h")
	data, err := Encode(all)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(data)
	if err != nil || !reflect.DeepEqual(back, all) {
		t.Errorf("%s: %v %v", data, back, err)
	}
	for _, bad := range []string{"", "{}", `[{"name":"a"}]`, `[{"address":"x"}]`} {
		if got, err := Decode([]byte(bad)); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`[{"name":"a","address":"192.0.2.1","gone":"2026-11-21T12:00:00Z"}]`))
	f.Add([]byte(`[{"address":"::ffff:192.0.2.1"}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := Decode(data)
		if err != nil {
			return
		}
		// Whoever was remembered without being gone survives one look at anything.
		seen := []Member{member("z@198.51.100.1")}
		merged := Merge(nil, all, seen, now)
		for _, m := range all {
			last := all[len(all)-1-slices.IndexFunc(reversed(all), func(o Member) bool { return o.Address == m.Address })]
			if last.Gone.IsZero() && !has(merged, m.Address) {
				t.Errorf("%v is lost in %v", m, merged)
			}
		}
		names := map[string]bool{}
		for _, p := range Peers(merged) {
			if names[p.Name] || p.Name == "" {
				t.Errorf("%q is not the name of one", p.Name)
			}
			names[p.Name] = true
		}
	})
}

func reversed(all []Member) []Member {
	out := slices.Clone(all)
	slices.Reverse(out)
	return out
}

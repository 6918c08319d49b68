// SPDX-License-Identifier: Apache-2.0

// Package endpoint decides whom a machine shares the API's endpoint with once the cluster is
// up: the peers of keepalived and the servers of haproxy, and whether the machine may stand
// for election as owner of the virtual address. It is pure; decision 0022 has the reasoning.
package endpoint

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

// Retention is how long a machine stays a peer after the cluster was first seen without it.
// Keeping one that is gone costs a packet nobody reads; dropping one that runs makes two
// owners of the address.
const Retention = 24 * time.Hour

// Member is a control plane, or one that was.
type Member struct {
	// Name is empty where only the address is known.
	Name    string     `json:"name,omitempty"`
	Address netip.Addr `json:"address"`
	// Gone is when the cluster was first seen without it.
	Gone time.Time `json:"gone,omitzero"`
}

// Document returns the control planes of a validated node document.
func Document(listed []node.Peer) []Member {
	var out []Member
	for _, p := range listed {
		if a, err := netip.ParseAddr(p.Address); err == nil {
			out = append(out, Member{Name: p.Name, Address: a.Unmap()})
		}
	}
	return out
}

// Merge returns who the control planes are, from those of the document, those remembered and
// those that the cluster says it has now. Without the last nobody was asked, and nothing that
// is known changes.
//
// Everybody who is in any of the three is in the result, except who was remembered, is not in
// the document and has been gone for Retention. A clock that went back starts the time anew.
func Merge(document, remembered, seen []Member, now time.Time) []Member {
	all := map[netip.Addr]Member{}
	for _, m := range document {
		all[m.Address] = m
	}
	for _, m := range remembered {
		_, listed := all[m.Address]
		if m.Gone.After(now) {
			m.Gone = now
		}
		if len(seen) > 0 && !listed && !m.Gone.IsZero() && now.Sub(m.Gone) >= Retention && !has(seen, m.Address) {
			continue
		}
		if m.Name == "" {
			m.Name = all[m.Address].Name
		}
		all[m.Address] = m
	}
	for a, m := range all {
		if len(seen) > 0 && m.Gone.IsZero() {
			m.Gone = now
			all[a] = m
		}
	}
	for _, m := range seen {
		if m.Name == "" {
			m.Name = all[m.Address].Name
		}
		m.Gone = time.Time{}
		all[m.Address] = m
	}
	out := make([]Member, 0, len(all))
	for _, m := range all {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Member) int { return cmp.Or(cmp.Compare(a.Name, b.Name), a.Address.Compare(b.Address)) })
	return out
}

func has(members []Member, a netip.Addr) bool {
	return slices.ContainsFunc(members, func(m Member) bool { return m.Address == a })
}

// Peers names every member once. Where two share a name, a machine that was replaced under
// its name, the one that is gone gets its address added.
func Peers(members []Member) []node.Peer {
	taken := map[string]bool{}
	var out []node.Peer
	for _, gone := range []bool{false, true} {
		for _, m := range members {
			if m.Gone.IsZero() == gone {
				continue
			}
			suffix := strings.ReplaceAll(m.Address.String(), ":", "-")
			name := cmp.Or(m.Name, suffix)
			for taken[name] {
				name += "-" + suffix
			}
			taken[name] = true
			out = append(out, node.Peer{Name: name, Address: m.Address.String()})
		}
	}
	slices.SortFunc(out, func(a, b node.Peer) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Encode renders members for the file that remembers them.
func Encode(members []Member) ([]byte, error) {
	data, err := json.MarshalIndent(members, "", "  ")
	return append(data, '\n'), err
}

// Decode reads what Encode wrote.
func Decode(data []byte) ([]Member, error) {
	var out []Member
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, err
	}
	for i, m := range out {
		if !m.Address.IsValid() {
			return nil, fmt.Errorf("entry %d has no address", i+1)
		}
		out[i].Address = m.Address.Unmap()
	}
	return out, nil
}

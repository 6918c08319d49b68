// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"errors"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

var three = []node.Peer{{Name: "a", Address: "192.0.2.1"}, {Name: "b", Address: "192.0.2.2"}, {Name: "c", Address: "192.0.2.3"}}

// saw is an answer listing peers, of whom those named have served clients.
func saw(peers []node.Peer, served ...string) Answer {
	a := Answer{members: announce(peers), Running: len(served) > 0}
	for i := range a.members {
		for _, s := range served {
			if a.members[i].Name == s {
				a.members[i].ClientURLs = []string{"https://x:2379"}
			}
		}
	}
	return a
}

func TestDecide(t *testing.T) {
	four := append(append([]node.Peer(nil), three...), node.Peer{Name: "d", Address: "192.0.2.4"})
	moved := []node.Peer{three[0], three[1], {Name: "c", Address: "192.0.2.9"}}
	down := map[string]error{"a": errors.New("a: refused"), "b": errors.New("b: refused")}
	for name, tc := range map[string]struct {
		members []node.Peer
		answers map[string]Answer
		errs    map[string]error
		want    Verdict
		reason  string
	}{
		"alone":                                  {three[2:], nil, nil, Found, "1 of 1"},
		"nobody answers":                         {three, nil, down, Wait, "1 of 3 control planes are here, 2 are needed to start the cluster; a: refused; b: refused"},
		"one waits too":                          {three, map[string]Answer{"a": saw(three)}, nil, Found, "2 of 3"},
		"one of four is not enough":              {four, map[string]Answer{"a": saw(four)}, nil, Wait, "2 of 4 control planes are here, 3"},
		"another list does not count":            {three, map[string]Answer{"a": saw(four)}, nil, Wait, "another list of control planes: a"},
		"another address does not count":         {three, map[string]Answer{"a": saw(moved)}, nil, Wait, "another list"},
		"the others started before":              {three, map[string]Answer{"a": saw(three, "a", "b")}, nil, Found, "never ran"},
		"wiped":                                  {three, map[string]Answer{"a": saw(three, "a", "b", "c")}, nil, Join, "a is in a cluster"},
		"wiped, one lags":                        {three, map[string]Answer{"a": saw(three, "a", "b"), "b": saw(three, "a", "b", "c")}, nil, Join, "b is in"},
		"wiped, one waits":                       {three, map[string]Answer{"a": saw(three), "b": saw(three, "a", "b", "c")}, nil, Join, "b is in"},
		"added to a cluster without us":          {four, map[string]Answer{"a": saw(three, "a", "b", "c")}, nil, Join, "a is in"},
		"listed at an address of before":         {three, map[string]Answer{"a": saw(moved, "a", "b")}, nil, Join, "a is in"},
		"something of another authority answers": {three, map[string]Answer{"a": {Foreign: true}, "b": saw(three)}, nil, Join, "a is in"},
	} {
		t.Run(name, func(t *testing.T) {
			got, reason := Decide(node.Peer{Name: "c", Address: "192.0.2.3"}, tc.members, tc.answers, tc.errs)
			if got != tc.want || !strings.Contains(reason, tc.reason) {
				t.Errorf("%d: %s; want %d: %s", got, reason, tc.want, tc.reason)
			}
		})
	}
}

func FuzzParseMembers(f *testing.F) {
	f.Add([]byte(`[{"id":1,"peerURLs":["https://192.0.2.1:2380"],"name":"a","clientURLs":["https://192.0.2.1:2379"]}]`))
	f.Add([]byte(`[{"peerURLs":["%"]}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		list, err := parseMembers(body)
		if err != nil {
			return
		}
		a := Answer{members: list}
		Decide(three[2], three, map[string]Answer{"a": a}, nil)
		for _, m := range list {
			for _, u := range m.PeerURLs {
				if host, err := peerAddress(u); err == nil && strings.Contains(host, "/") {
					t.Errorf("%q is no host", host)
				}
			}
		}
	})
}

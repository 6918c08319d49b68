// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

// The place of a machine that tries again is taken from it only if no etcd of its own has it.
func TestPlaceOfAnEarlierAttempt(t *testing.T) {
	self := node.Peer{Name: "cp-2", Address: "192.0.2.12"}
	started := func(learner bool) []*etcdserverpb.Member {
		return []*etcdserverpb.Member{{ID: 9, Name: self.Name, IsLearner: learner, PeerURLs: []string{PeerURL(self.Address)}, ClientURLs: []string{ClientURL(self.Address)}}}
	}
	for name, tc := range map[string]struct {
		before  []*etcdserverpb.Member
		hasData bool
		id      uint64
		calls   []string
		err     string
	}{
		"its etcd came to life meanwhile":      {started(true), true, 9, nil, ""},
		"and votes already":                    {started(false), true, 9, nil, ""},
		"its etcd ran and lost its data":       {started(true), false, 7, []string{"remove", "add"}, ""},
		"it voted and lost its data":           {started(false), false, 7, []string{"remove", "add"}, ""},
		"data, and the place was taken away":   {nil, true, 0, nil, "firstboot reset"},
		"data, and a namesake's entry is left": {[]*etcdserverpb.Member{{ID: 9, Name: self.Name, PeerURLs: []string{PeerURL("192.0.2.99")}}}, true, 0, []string{"remove"}, "firstboot reset"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &moody{members: append([]*etcdserverpb.Member{{ID: 1, Name: "cp-1", PeerURLs: []string{PeerURL("192.0.2.11")}, ClientURLs: []string{ClientURL("192.0.2.11")}}}, tc.before...)}
			c := serveMoody(t, m)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			j, err := c.AddLearner(ctx, self, func() bool { return tc.hasData })
			var final *FinalError
			switch {
			case tc.err != "":
				if !errors.As(err, &final) || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("%v, want %q", err, tc.err)
				}
			case err != nil || j.ID != tc.id || !slices.Contains(j.Initial, self) || len(j.Initial) != 2:
				t.Errorf("%+v %v", j, err)
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			if got := slices.DeleteFunc(m.calls, func(s string) bool { return s == "list" }); !slices.Equal(got, tc.calls) {
				t.Errorf("calls %v, want %v", got, tc.calls)
			}
		})
	}
}

// TestOldManifestComesToLife: the etcd of an attempt that was cut off starts while the next one
// makes a place for it. It stays the member it is, and others can join after it.
func TestOldManifestComesToLife(t *testing.T) {
	s := newSiteWithEtcd(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	a, b, c := s.machine("a", "127.1.4.1"), s.machine("b", "127.1.4.2"), s.machine("c", "127.1.4.3")
	found(ctx, t, peersOf(a), a)

	client := b.client(a.Peer)
	first, err := client.AddLearner(ctx, b.Peer, b.hasData)
	if err != nil {
		t.Fatal(err)
	}
	again, err := client.AddLearner(ctx, b.Peer, b.hasData)
	if err != nil || again.ID != first.ID {
		t.Fatalf("a place that was never used: %+v, then %+v %v", first, again, err)
	}
	b.start(first.Initial, true)
	if err := client.AwaitStart(ctx, first.ID, b.Peer, func([]node.Peer) error { return nil }); err != nil {
		t.Fatal(err)
	}
	again, err = client.AddLearner(ctx, b.Peer, b.hasData)
	if err != nil || again.ID != first.ID {
		t.Fatalf("a place that is in use: %+v, then %+v %v", first, again, err)
	}
	if err := client.Promote(ctx, again.ID); err != nil {
		t.Fatal(err)
	}
	if err := join(ctx, c, a.Peer, b.Peer); err != nil {
		t.Fatal(err)
	}
	if got := voters(ctx, t, b); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Error(got)
	}
}

// Nobody is told anything, and the port is free again, if the machine is not what it seemed.
func TestHeld(t *testing.T) {
	s := newSite(t)
	m := s.machine("a", "127.1.4.4")
	reason := errors.New("etcd has data")
	r := &Rendezvous{Self: m.Peer, Members: peersOf(m), TLS: m.cfg, Held: func() error { return reason }}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for range 2 {
		if err := r.Serve(ctx); !errors.Is(err, reason) {
			t.Error(err)
		}
	}
}

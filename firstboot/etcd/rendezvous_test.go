// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"
)

// Control planes whose clocks are apart do not believe each other's certificates. Each says that
// it is the clock, whoever notices first.
func TestClocksOfTwoControlPlanes(t *testing.T) {
	const (
		theirs = "its certificate is not valid at the time of this machine, "
		ours   = "the certificate of this machine, whose time is "
		off    = "connection refused"
	)
	for name, tc := range map[string]struct {
		self, peer time.Duration // from now, when each made its certificate
		want       string
	}{
		"alike":                         {0, 0, ""},
		"a little apart":                {-4 * time.Minute, 4 * time.Minute, ""},
		"the other is ahead":            {0, 30 * time.Minute, theirs},
		"the other is far behind":       {0, -2 * time.Hour, theirs},
		"this machine is ahead":         {30 * time.Minute, 0, ours},
		"this machine was asleep":       {-2 * time.Hour, 0, ours},
		"each is wrong for the other":   {30 * time.Minute, -2 * time.Hour, theirs},
		"nobody is there to compare to": {0, 0, off},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.maker.Now = time.Now().Add(tc.self)
			self := s.machine("a", "127.1.6.1")
			s.maker.Now = time.Now().Add(tc.peer)
			peer := s.machine("b", "127.1.6.2")
			members := peersOf(self, peer)
			ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
			var serving sync.WaitGroup
			defer serving.Wait()
			defer stop()
			if tc.want != off {
				listening := make(chan struct{})
				r := &Rendezvous{Self: peer.Peer, Members: members, TLS: peer.cfg, Held: func() error { close(listening); return nil }}
				serving.Go(func() {
					if err := r.Serve(ctx); err != nil {
						t.Error(err)
					}
				})
				<-listening
			}
			answers, errs := (&Rendezvous{Self: self.Peer, Members: members, TLS: self.cfg}).Ask(ctx, members)
			if tc.want == "" {
				if date := answers["b"].Date; len(errs) > 0 || time.Since(date).Abs() > time.Minute {
					t.Errorf("%v, the other's clock says %s", errs, date)
				}
				return
			}
			err := errs["b"]
			if err == nil || !strings.HasPrefix(err.Error(), "b at 127.1.6.2: ") || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("%v, want %q", err, tc.want)
			}
			if strings.Contains(err.Error(), "one of the two clocks is wrong: ") != (tc.want != off) {
				t.Error(err)
			}
		})
	}
}

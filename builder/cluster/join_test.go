// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"testing"
	"time"
)

// Control planes renew tokens as the cluster file says: their documents say the same.
func TestJoinReachesTheNodes(t *testing.T) {
	for text, want := range map[string]struct {
		renew bool
		ttl   time.Duration
	}{
		base: {true, 24 * time.Hour},
		with("join: {renew: false, tokenTTL: 36h}"):         {false, 36 * time.Hour},
		with("join: {renew: true, tokenTTL: 90m}"):          {true, 90 * time.Minute},
		with("pki: {mode: generate}\njoin: {tokenTTL: 2h}"): {true, 2 * time.Hour},
	} {
		dir := t.TempDir()
		rendered(t, parse(t, text), dir)
		for _, name := range []string{"hosts/cp-1.ign", "hosts/cp-3.ign", "hosts/w-1.ign", "roles/control-plane.ign", "roles/worker.ign"} {
			n := readHost(t, dir, name).document(t)
			if len(n.BootstrapTokens) != 1 || n.Join.Renew != want.renew || n.BootstrapTokens[0].TTL.D() != want.ttl {
				t.Errorf("%s of\n%s\n%+v %+v, want %+v", name, text, n.Join, n.BootstrapTokens, want)
			}
		}
	}
}

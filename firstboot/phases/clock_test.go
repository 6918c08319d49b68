// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/discovery"
	"github.com/imgbuild/imgbuild/firstboot/etcd"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// A control plane whose clock is apart from another's neither founds a cluster nor joins one: what
// it signs would not be valid for that one. It waits, and says for what.
func TestClocksAreApartInAMeeting(t *testing.T) {
	const apart = "the clocks are apart: that of this machine says "
	for name, tc := range map[string]struct {
		skew   time.Duration
		served []string // in the list that the other answers with
		mute   bool     // it does not say the time
		founds bool
		joins  bool
	}{
		"alike":                      {0, nil, false, true, false},
		"a little apart":             {50 * time.Second, nil, false, true, false},
		"it says no time":            {time.Hour, nil, true, true, false},
		"ahead":                      {70 * time.Second, nil, false, false, false},
		"behind":                     {-70 * time.Second, nil, false, false, false},
		"alike, and in a cluster":    {0, []string{"cp-1", "cp-2", "cp-3"}, false, false, true},
		"apart, and in a cluster":    {time.Hour, []string{"cp-1", "cp-2", "cp-3"}, false, false, false},
		"apart, and in ours, unseen": {-time.Hour, []string{"cp-1"}, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			ca := authorities(t)
			s, other := inRing(t, ring[2], ca), inRing(t, ring[0], ca)
			cfg, err := other.meetingTLS(&meeting{})
			if err != nil {
				t.Fatal(err)
			}
			l, err := net.Listen("tcp", net.JoinHostPort(other.self().Address, "2380"))
			if err != nil {
				t.Fatal(err)
			}
			says := time.Now().Add(tc.skew).UTC()
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if w.Header().Set("Date", says.Format(http.TimeFormat)); tc.mute {
					w.Header()["Date"] = nil
				}
				var list []map[string]any
				for _, p := range ring {
					m := map[string]any{"name": p.Name, "peerURLs": []string{etcd.PeerURL(p.Address)}}
					if slices.Contains(tc.served, p.Name) {
						m["clientURLs"] = []string{etcd.ClientURL(p.Address)}
					}
					list = append(list, m)
				}
				_ = json.NewEncoder(w).Encode(list)
			}))
			srv.Listener.Close()
			srv.Listener, srv.TLS, srv.Config.ErrorLog = l, cfg, quiet
			srv.StartTLS()
			defer srv.Close()
			m, err := newMeeting(s.Node, s.self())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if !tc.founds && !tc.joins {
				ctx, cancel = context.WithTimeout(t.Context(), soon)
				defer cancel()
			}
			founds, err := s.meet(ctx, m)
			switch {
			case tc.founds || tc.joins:
				if err != nil || founds != tc.founds {
					t.Errorf("founds: %v, %v", founds, err)
				}
			case err == nil || !strings.HasPrefix(err.Error(), "it is not known whether the cluster exists: "+apart) ||
				!strings.Contains(err.Error(), " and that of cp-1 "+says.Format(time.RFC3339)+"; let both reach a time server"):
				t.Errorf("founds: %v, %v", founds, err)
			}
		})
	}
}

// soon is when who is to fail gives up.
const soon = 2 * time.Second

// joiner is a worker that knows an API server and a token.
func joiner(t *testing.T, a *apiServer, name string) *State {
	t.Helper()
	n := &node.Node{Role: node.Worker, Node: node.Machine{Name: name, Address: "127.77.1.8"}, Cluster: node.Cluster{Endpoint: a.Listener.Addr().String()},
		Join: node.Join{CAVerification: node.VerifyToken}, BootstrapTokens: []node.BootstrapToken{{Token: "abcdef.0123456789abcdef"}}}
	node.SetDefaults(n)
	n.Timeouts.Discovery = node.Duration(time.Minute)
	c, err := kubeadm.New(n, kubeadm.Host{Hostname: name, KubernetesVersion: "v1.36.3"})
	if err != nil {
		t.Fatal(err)
	}
	return &State{Root: t.TempDir(), Node: n, Config: c, Start: time.Now(), Log: slog.New(slog.DiscardHandler), Poll: 10 * time.Millisecond}
}

// A worker whose clock is apart from the cluster's does not join, whether it could believe the
// cluster's certificate or not.
func TestClocksAreApartWhenJoining(t *testing.T) {
	ca := authorities(t)
	for skew, joins := range map[time.Duration]bool{0: true, 40 * time.Second: true, 2 * time.Minute: false, -2 * time.Minute: false, 2 * time.Hour: false} {
		a := serveAPIAt(t, ca, skew)
		s := joiner(t, a, "w-1")
		if !joins {
			s.Node.Timeouts.Discovery = node.Duration(soon)
		}
		err := discover(t.Context(), s)
		if joins {
			if err != nil || s.Found == nil {
				t.Errorf("%s: found %v, %v", skew, s.Found != nil, err)
			}
			continue
		}
		if !errors.Is(err, discovery.ErrClock) || s.Found != nil || !strings.HasPrefix(err.Error(), "no cluster to join: the clocks are apart: that of this machine says ") ||
			!strings.Contains(err.Error(), " and that of "+a.URL+" ") {
			t.Errorf("%s: found %v, %v", skew, s.Found != nil, err)
		}
	}
}

// A cluster that answers is one, whatever its clock: no other is founded beside it.
func TestFoundingAloneWithAWrongClock(t *testing.T) {
	ca := authorities(t)
	for _, skew := range []time.Duration{0, 2 * time.Minute, 2 * time.Hour} {
		a := serveAPIAt(t, ca, skew)
		s := inRing(t, ring[0], ca, func(n *node.Node) {
			n.Cluster.ControlPlanes, n.Cluster.Endpoint, n.Timeouts.Discovery = ring[:1], a.Listener.Addr().String(), node.Duration(soon)
			n.PKI.Mode, n.PKI.Initiator = node.PKIGenerate, "cp-1"
		})
		if err := discover(t.Context(), s); err == nil || !strings.Contains(err.Error(), "a cluster answers at "+a.URL+" already") || s.Membership != nil {
			t.Errorf("%s: %+v %v", skew, s.Membership, err)
		}
	}
}

// In the end the reason is the last one that was found, not that the time was over.
func TestSeekSaysWhy(t *testing.T) {
	s := &State{Poll: time.Millisecond}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	looks := 0
	err := s.seek(ctx, func() error {
		if looks++; looks < 3 {
			return fmt.Errorf("reason %d", looks)
		}
		<-ctx.Done()
		return ctx.Err()
	})
	if err == nil || err.Error() != "no cluster to join: reason 2" {
		t.Error(err)
	}
	if err := s.seek(ctx, func() error { return errors.New("at once") }); err == nil || err.Error() != "no cluster to join: at once" {
		t.Error(err)
	}
}

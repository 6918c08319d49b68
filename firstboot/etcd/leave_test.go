// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

// leaving is a member that ends with the answer to its removal.
type leaving struct {
	*moody
	end func()
}

func (l *leaving) MemberRemove(ctx context.Context, r *etcdserverpb.MemberRemoveRequest) (*etcdserverpb.MemberRemoveResponse, error) {
	resp, err := l.moody.MemberRemove(ctx, r)
	go l.end()
	<-ctx.Done()
	return resp, err
}

// serveCluster serves an API of members and returns its URL.
func serveCluster(t *testing.T, api etcdserverpb.ClusterServer) (url string, srv *grpc.Server) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv = grpc.NewServer()
	etcdserverpb.RegisterClusterServer(srv, api)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	return "http://" + l.Addr().String(), srv
}

// A machine may know of no other member than its own, which is the one that ends.
func TestLeaveByWayOfTheOthers(t *testing.T) {
	self := node.Peer{Name: "cp-1", Address: "192.0.2.11"}
	m := &moody{members: []*etcdserverpb.Member{{ID: 1, Name: "cp-1", PeerURLs: []string{PeerURL(self.Address)}}}}
	last := &leaving{moody: m}
	own, srv := serveCluster(t, last)
	last.end = func() {
		m.mu.Lock()
		m.refusals = map[string][]error{"remove": {rpctypes.ErrGRPCMemberNotFound}}
		m.mu.Unlock()
		srv.Stop()
	}
	other, _ := serveCluster(t, m)
	m.mu.Lock()
	m.members = append(m.members, &etcdserverpb.Member{ID: 2, Name: "cp-2", PeerURLs: []string{PeerURL("192.0.2.12")}, ClientURLs: []string{other}})
	m.mu.Unlock()
	c, err := Dial([]string{own}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Pause = 5 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rest, err := c.Leave(ctx, self)
	if err != nil || len(rest) != 1 || rest[0].Name != "cp-2" {
		t.Fatalf("%v stay: %v", rest, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.members) != 1 || m.members[0].ID != 2 || !slices.Equal(m.calls, []string{"list", "remove", "remove"}) {
		t.Errorf("%v are members after %q", m.members, m.calls)
	}
}

// TestLeave: a machine that founded alone is left by one that never started, joined by another,
// leaves by way of itself, and the last one stays.
func TestLeave(t *testing.T) {
	s := newSiteWithEtcd(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	a, b, c := s.machine("a", "127.1.3.1"), s.machine("b", "127.1.3.2"), s.machine("c", "127.1.3.3")
	a.start(peersOf(a), false)
	if err := a.put(ctx, "k", "v"); err != nil {
		t.Fatal(err)
	}
	stays := func(m *machine, via *machine, want ...string) {
		t.Helper()
		rest, err := m.client(via.Peer).Leave(ctx, m.Peer)
		var got []string
		for _, r := range rest {
			got = append(got, r.Name)
		}
		if !slices.Equal(got, want) || err != nil {
			t.Fatalf("%q stay: %v", got, err)
		}
	}
	if _, err := c.client(a.Peer).etcd.MemberAddAsLearner(ctx, []string{PeerURL(c.Address)}); err != nil {
		t.Fatal(err)
	}
	stays(c, a, "a")
	stays(c, a, "a") // again
	if err := join(ctx, b, a.Peer); err != nil {
		t.Fatal(err)
	}
	stays(a, a, "b")
	a.wipe()
	if v, err := b.get(ctx, "k"); v != "v" || err != nil {
		t.Errorf("%q %v", v, err)
	}
	stays(b, b)
	if got := voters(ctx, t, b); !slices.Equal(got, []string{"b"}) {
		t.Error(got)
	}
}

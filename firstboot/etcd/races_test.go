// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

// moody is the membership of a cluster that refuses calls before it accepts one.
type moody struct {
	etcdserverpb.UnimplementedClusterServer
	etcdserverpb.UnimplementedKVServer
	mu       sync.Mutex
	refusals map[string][]error
	calls    []string
	times    []time.Time
	members  []*etcdserverpb.Member
}

// call notes a call and returns the refusal that is due.
func (m *moody) call(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls, m.times = append(m.calls, name), append(m.times, time.Now())
	if due := m.refusals[name]; len(due) > 0 {
		m.refusals[name] = due[1:]
		return due[0]
	}
	return nil
}

func (m *moody) MemberList(context.Context, *etcdserverpb.MemberListRequest) (*etcdserverpb.MemberListResponse, error) {
	return &etcdserverpb.MemberListResponse{Members: m.members}, m.call("list")
}

func (m *moody) MemberAdd(_ context.Context, r *etcdserverpb.MemberAddRequest) (*etcdserverpb.MemberAddResponse, error) {
	err := m.call("add")
	if errors.Is(err, errLost) || err == nil {
		added := &etcdserverpb.Member{ID: 7, PeerURLs: r.PeerURLs, IsLearner: r.IsLearner}
		m.members = append(m.members, added)
		if err == nil {
			return &etcdserverpb.MemberAddResponse{Member: added, Members: m.members}, nil
		}
	}
	return nil, err
}

func (m *moody) MemberPromote(context.Context, *etcdserverpb.MemberPromoteRequest) (*etcdserverpb.MemberPromoteResponse, error) {
	return &etcdserverpb.MemberPromoteResponse{}, m.call("promote")
}

func (m *moody) MemberRemove(_ context.Context, r *etcdserverpb.MemberRemoveRequest) (*etcdserverpb.MemberRemoveResponse, error) {
	err := m.call("remove")
	if err == nil {
		m.members = slices.DeleteFunc(m.members, func(o *etcdserverpb.Member) bool { return o.ID == r.ID })
	}
	return &etcdserverpb.MemberRemoveResponse{}, err
}

func (m *moody) Range(context.Context, *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	return &etcdserverpb.RangeResponse{}, m.call("get")
}

// errLost is an answer that does not arrive although the member was added.
var errLost = status.Error(codes.Unavailable, "transport is closing")

func serveMoody(t *testing.T, m *moody) *Client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	etcdserverpb.RegisterClusterServer(srv, m)
	etcdserverpb.RegisterKVServer(srv, m)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	c, err := Dial([]string{"http://" + l.Addr().String()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	c.Pause, c.MaxPause = 5*time.Millisecond, 40*time.Millisecond
	return c
}

// empty is what a machine says whose etcd never ran.
func empty() bool { return false }

// TestRaces goes through what etcd answers while several machines change its membership, or one
// of them dies on the way. Each is waited out.
func TestRaces(t *testing.T) {
	self := node.Peer{Name: "cp-2", Address: "192.0.2.12"}
	first := &etcdserverpb.Member{ID: 1, Name: "cp-1", PeerURLs: []string{PeerURL("192.0.2.11")}, ClientURLs: []string{ClientURL("192.0.2.11")}}
	add := func(ctx context.Context, c *Client) error { _, err := c.AddLearner(ctx, self, empty); return err }
	promote := func(ctx context.Context, c *Client) error { return c.Promote(ctx, 7) }
	remove := func(ctx context.Context, c *Client) error { return c.Remove(ctx, 7) }
	serving := func(ctx context.Context, c *Client) error { return c.AwaitServing(ctx) }
	for _, tc := range []struct {
		race     string
		do       func(context.Context, *Client) error
		call     string
		refusals []error
		before   []*etcdserverpb.Member
		want     []string // the calls that change something or ask again
	}{
		{"another machine is a learner at the moment", add, "add", []error{rpctypes.ErrGRPCTooManyLearners, rpctypes.ErrGRPCTooManyLearners}, nil, []string{"add", "add", "add"}},
		{"voters are not connected for five seconds", add, "add", []error{rpctypes.ErrGRPCUnhealthy}, nil, []string{"add", "add"}},
		{"too few voters have started", add, "add", []error{rpctypes.ErrGRPCMemberNotEnoughStarted}, nil, []string{"add", "add"}},
		{"there is no leader", add, "add", []error{rpctypes.ErrGRPCNoLeader}, nil, []string{"add", "add"}},
		{"the leader changes", add, "add", []error{rpctypes.ErrGRPCLeaderChanged}, nil, []string{"add", "add"}},
		{"the change takes too long", add, "add", []error{rpctypes.ErrGRPCTimeout}, nil, []string{"add", "add"}},
		{"the answer is lost and the member added", add, "add", []error{errLost, rpctypes.ErrGRPCPeerURLExist}, nil, []string{"add", "add"}},
		{"an earlier attempt added the member", add, "add", nil,
			[]*etcdserverpb.Member{{ID: 9, IsLearner: true, PeerURLs: []string{PeerURL(self.Address)}}}, nil},
		{"an earlier member of the name left its entry", add, "remove", []error{rpctypes.ErrGRPCUnhealthy},
			[]*etcdserverpb.Member{{ID: 9, Name: self.Name, PeerURLs: []string{PeerURL("192.0.2.99")}}}, []string{"remove", "remove", "add"}},
		{"an earlier member of the address left its entry, as a voter that never started", add, "add", nil,
			[]*etcdserverpb.Member{{ID: 9, PeerURLs: []string{PeerURL(self.Address)}}}, []string{"remove", "add"}},
		{"the list is not answered at first", add, "list", []error{rpctypes.ErrGRPCNoLeader, errLost}, nil, []string{"add"}},
		{"the learner is not in sync", promote, "promote", []error{rpctypes.ErrGRPCLearnerNotReady, rpctypes.ErrGRPCLearnerNotReady}, nil, []string{"promote", "promote", "promote"}},
		{"promotion meets a cluster not connected", promote, "promote", []error{rpctypes.ErrGRPCUnhealthy}, nil, []string{"promote", "promote"}},
		{"promotion was done and its answer lost", promote, "promote", []error{errLost, rpctypes.ErrGRPCMemberNotLearner}, nil, []string{"promote", "promote"}},
		{"removal was done and its answer lost", remove, "remove", []error{errLost, rpctypes.ErrGRPCMemberNotFound}, nil, []string{"remove", "remove"}},
		{"a new voter does not serve at once", serving, "get", []error{rpctypes.ErrGRPCNoLeader, rpctypes.ErrGRPCTimeout}, nil, []string{"get", "get", "get"}},
	} {
		t.Run(tc.race, func(t *testing.T) {
			m := &moody{refusals: map[string][]error{tc.call: tc.refusals}, members: append([]*etcdserverpb.Member{first}, tc.before...)}
			c := serveMoody(t, m)
			var why []error
			c.Report = func(err error) { why = append(why, err) }
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := tc.do(ctx, c); err != nil {
				t.Fatal(err)
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			got := slices.DeleteFunc(slices.Clone(m.calls), func(s string) bool { return s == "list" })
			if !slices.Equal(got, tc.want) {
				t.Errorf("calls %v, want %v", got, tc.want)
			}
			if len(why) > len(tc.refusals) {
				t.Errorf("%d refusals, reported %v", len(tc.refusals), why)
			}
		})
	}
}

// Refusals are waited out with pauses that grow to a limit, and as long as the caller says.
func TestRacesEnd(t *testing.T) {
	refusals := slices.Repeat([]error{rpctypes.ErrGRPCTooManyLearners}, 1000)
	m := &moody{refusals: map[string][]error{"add": refusals}, members: []*etcdserverpb.Member{{ID: 3, IsLearner: true, PeerURLs: []string{PeerURL("192.0.2.13")}}}}
	c := serveMoody(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := 0
	c.Report = func(error) {
		if told++; told == 8 {
			cancel()
		}
	}
	_, err := c.AddLearner(ctx, node.Peer{Name: "cp-2", Address: "192.0.2.12"}, empty)
	if err == nil || !strings.Contains(err.Error(), "member 3 at [https://192.0.2.13:2380] is still becoming a member; if that machine is gone, remove it with etcdctl member remove 3") {
		t.Errorf("%v", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var last time.Time
	adds := 0
	for i, call := range m.calls {
		if call != "add" {
			continue
		}
		// 5, 10, 20, 40, 40 ... ms; what is slept is never less.
		if pause := min(5*time.Millisecond<<max(adds-1, 0), c.MaxPause); adds > 0 && m.times[i].Sub(last) < pause {
			t.Errorf("attempt %d came %s after the one before, not %s", adds, m.times[i].Sub(last), pause)
		}
		last = m.times[i]
		adds++
	}
	if adds != 8 {
		t.Errorf("%d attempts", adds)
	}
}

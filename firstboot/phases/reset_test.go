// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/imgbuild/imgbuild/firstboot/balancer"
	"github.com/imgbuild/imgbuild/firstboot/etcd"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
	"github.com/imgbuild/imgbuild/firstboot/vip"
)

// register is what etcd knows about its members.
type register struct {
	etcdserverpb.UnimplementedClusterServer
	mu      sync.Mutex
	members []*etcdserverpb.Member
}

func (r *register) MemberList(context.Context, *etcdserverpb.MemberListRequest) (*etcdserverpb.MemberListResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &etcdserverpb.MemberListResponse{Members: slices.Clone(r.members)}, nil
}

func (r *register) MemberRemove(_ context.Context, q *etcdserverpb.MemberRemoveRequest) (*etcdserverpb.MemberRemoveResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members = slices.DeleteFunc(slices.Clone(r.members), func(m *etcdserverpb.Member) bool { return m.ID == q.ID })
	return &etcdserverpb.MemberRemoveResponse{}, nil
}

// serve lets etcd listen at an address, with a certificate of the machine's authority.
func (r *register) serve(t *testing.T, s *State, address string) {
	t.Helper()
	ca, err := readPair(s.path(kubeadm.PKIDir + "/" + pki.EtcdCA))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := s.maker().Leaf(pki.Spec{Name: "server", CommonName: "etcd", Server: true, IPs: []netip.Addr{netip.MustParseAddr(address)}}, ca)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(ca.Cert)
	l, err := net.Listen("tcp", strings.TrimPrefix(etcd.ClientURL(address), "https://"))
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, MinVersion: tls.VersionTLS12,
		Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Cert.Raw}, PrivateKey: leaf.Key}}})))
	etcdserverpb.RegisterClusterServer(srv, r)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
}

// TestLeave asks an etcd, whatever the document, the data and the memory of the machine say.
func TestLeave(t *testing.T) {
	peers := []node.Peer{{Name: "cp-1", Address: "127.200.1.1"}, {Name: "cp-2", Address: "127.200.1.2"}, {Name: "cp-3", Address: "127.200.1.3"}}
	started := func(i int) *etcdserverpb.Member {
		return &etcdserverpb.Member{ID: uint64(i), Name: peers[i-1].Name, PeerURLs: []string{etcd.PeerURL(peers[i-1].Address)}, ClientURLs: []string{etcd.ClientURL(peers[i-1].Address)}}
	}
	learner := &etcdserverpb.Member{ID: 1, IsLearner: true, PeerURLs: []string{etcd.PeerURL(peers[0].Address)}}
	own, cp2, cp3 := started(1), started(2), started(3)
	none := func(*State) error { return nil }
	data := func(s *State) error { return os.MkdirAll(s.path(kubeadm.EtcdDataDir+"/member"), 0o700) }
	place := func(s *State) error {
		return s.adopt(&Membership{Joined: true, ID: 1, Members: peers[:2]})
	}
	damage := func(s *State) error {
		_, err := kubeadm.WriteFiles(s.Root, kubeadm.File{Path: MembershipFile, Mode: 0o644, Data: []byte("{")})
		return err
	}
	keyless := func(s *State) error { return os.RemoveAll(s.path(kubeadm.PKIDir)) }
	const removed, ends, nothing = "member was removed", "the cluster ends with this machine", "this machine has no etcd member"
	for _, c := range []struct {
		name    string
		listed  []node.Peer
		machine func(*State) error
		at      int // which peer's etcd answers
		members []*etcdserverpb.Member
		want    string // or the error
		rest    []*etcdserverpb.Member
		unknown []string
	}{
		{"grown since its document", peers[:1], data, 1, []*etcdserverpb.Member{own, cp2, cp3}, removed, []*etcdserverpb.Member{cp2, cp3}, []string{"cp-2", "cp-3"}},
		{"grown, and the document has no list", nil, data, 1, []*etcdserverpb.Member{own, cp2}, removed, []*etcdserverpb.Member{cp2}, []string{"cp-2"}},
		{"grown beyond the list", peers[:2], data, 2, []*etcdserverpb.Member{own, cp2, cp3}, removed, []*etcdserverpb.Member{cp2, cp3}, []string{"cp-3"}},
		{"as listed", peers, data, 3, []*etcdserverpb.Member{own, cp2, cp3}, removed, []*etcdserverpb.Member{cp2, cp3}, nil},
		{"gone already", peers, data, 3, []*etcdserverpb.Member{cp2, cp3}, removed, []*etcdserverpb.Member{cp2, cp3}, nil},
		{"alone", peers[:1], data, 1, []*etcdserverpb.Member{own}, ends, []*etcdserverpb.Member{own}, nil},
		{"alone, of a longer list", peers, data, 1, []*etcdserverpb.Member{own}, ends, []*etcdserverpb.Member{own}, nil},
		{"silent", peers[:1], data, 0, nil, "leaving etcd: listing the members", nil, nil},
		{"a place that was never taken", peers[:2], place, 2, []*etcdserverpb.Member{cp2, learner}, removed, []*etcdserverpb.Member{cp2}, nil},
		{"a place not remembered", peers[:2], none, 2, []*etcdserverpb.Member{cp2, learner}, removed, []*etcdserverpb.Member{cp2}, nil},
		{"a damaged memory", peers[:2], damage, 2, []*etcdserverpb.Member{cp2, learner}, removed, []*etcdserverpb.Member{cp2}, nil},
		{"nothing to ask with", peers[:2], keyless, 0, nil, nothing, nil, nil},
		{"nothing to ask with about a place", peers[:2], func(s *State) error { return errors.Join(keyless(s), place(s)) }, 0, nil, "client certificate for etcd", nil, nil},
		{"nothing to ask with, a damaged memory", peers[:2], func(s *State) error { return errors.Join(keyless(s), damage(s)) }, 0, nil, "client certificate for etcd", nil, nil},
		{"a worker", peers, func(s *State) error { s.Config.Role = node.Worker; return data(s) }, 0, nil, nothing, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := kubeadmtest.Document()
			n.PKI.Algorithm, n.Cluster.ControlPlanes, n.Timeouts.EtcdAPICall = node.ECDSAP256, c.listed, node.Duration(20*time.Second)
			if c.at == 0 {
				n.Timeouts.EtcdAPICall = node.Duration(500 * time.Millisecond)
			}
			h := kubeadmtest.Host()
			h.Address = netip.MustParseAddr(peers[0].Address)
			config, err := kubeadm.New(n, h)
			if err != nil {
				t.Fatal(err)
			}
			s := &State{Root: t.TempDir(), Node: n, Config: config, Start: time.Now()}
			if _, err := pki.Ensure(t.Context(), s.Root, config, s.maker()); err != nil {
				t.Fatal(err)
			}
			r := &register{members: c.members}
			if c.at > 0 {
				r.serve(t, s, peers[c.at-1].Address)
			}
			if err := c.machine(s); err != nil {
				t.Fatal(err)
			}
			left, err := Leave(t.Context(), s)
			if err != nil {
				left = &Left{Did: err.Error()}
			}
			if failed := c.at == 0 && c.want != nothing; failed != (err != nil) || !strings.Contains(left.Did, c.want) || !slices.Equal(left.Unlisted, c.unknown) {
				t.Errorf("%+v, error %v; want %q, %q", left, err, c.want, c.unknown)
			}
			if !slices.Equal(r.members, c.rest) {
				t.Errorf("etcd has %v, want %v", r.members, c.rest)
			}
		})
	}
}

// Everything that systemd starts firstboot for is stopped, what starts it first.
func TestStopFirstBoot(t *testing.T) {
	var did []string
	var broken string
	s := &State{
		StopUnit: func(_ context.Context, unit string) error {
			if did = append(did, "stop "+unit); unit == broken {
				return errors.New("no")
			}
			return nil
		},
		StartUnit: func(ctx context.Context, unit string) error { did = append(did, "start "+unit); return ctx.Err() },
	}
	if err := StopFirstBoot(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if did[0] != "stop firstboot.service" {
		t.Errorf("%q", did)
	}
	services, err := filepath.Glob("../../assets/units/*.service")
	if err != nil || len(services) == 0 {
		t.Fatal(services, err)
	}
	for _, file := range services {
		text, err := os.ReadFile(file)
		unit := filepath.Base(file)
		if err != nil || !strings.Contains(string(text), "ExecStart=/usr/bin/firstboot ") || unit == "firstboot-report.service" {
			continue
		}
		at := slices.Index(did, "stop "+unit)
		if at < 0 {
			t.Errorf("%s goes on", unit)
		}
		for _, kind := range []string{".timer", ".path"} {
			starter := strings.TrimSuffix(unit, ".service") + kind
			_, err := os.Stat(filepath.Join(filepath.Dir(file), starter))
			if i := slices.Index(did, "stop "+starter); err == nil && (i < 0 || i > at) {
				t.Errorf("%s starts %s again: %q", starter, unit, did)
			}
		}
	}
	// A reset that cannot begin changes nothing, not even when it is interrupted.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	did, broken = nil, "firstboot-renew.timer"
	if err := StopFirstBoot(ctx, s); err == nil || err.Error() != "no" {
		t.Error(err)
	}
	if want := "stop firstboot.service, stop firstboot-renew.timer, start firstboot.service, start firstboot-renew.timer, start firstboot-follow.timer, start firstboot-cni.path"; strings.Join(did, ", ") != want {
		t.Errorf("%q", did)
	}
}

// What carries the endpoint is stopped first, where it was started.
func TestResetStopsWhatCarriesTheEndpoint(t *testing.T) {
	s, _ := endpointState(t, func(n *node.Node) { n.Cluster.Endpoint, n.VIP.LoadBalancer = "192.0.2.10:8443", "haproxy" })
	var stopped []string
	s.StopUnit = func(_ context.Context, unit string) error { stopped = append(stopped, unit); return nil }
	if err := stopEndpoint(t.Context(), s); err != nil || stopped != nil {
		t.Errorf("before anything was started: %v %v", stopped, err)
	}
	if err := errors.Join(startBalancer(t.Context(), s), startKeepalived(t.Context(), s), stopEndpoint(t.Context(), s)); err != nil {
		t.Fatal(err)
	}
	if want := []string{vip.Unit, vip.WatchUnit, balancer.Unit}; !slices.Equal(stopped, want) {
		t.Errorf("%q, want %q", stopped, want)
	}
}

// Pods that do not end keep their volumes and their runtime.
func TestStopPodsIsInterrupted(t *testing.T) {
	s, _ := endpointState(t, func(*node.Node) {})
	var stopped []string
	s.StopUnit = func(_ context.Context, unit string) error { stopped = append(stopped, unit); return nil }
	if _, err := kubeadm.WriteFiles(s.Root, kubeadm.File{Path: podsGroup + "/cgroup.events", Mode: 0o644, Data: []byte("populated 1\nfrozen 0\n")}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := StopPods(ctx, s); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if !slices.Equal(stopped, []string{KubeletUnit}) {
		t.Errorf("%q was stopped", stopped)
	}
}

func TestMountsBelow(t *testing.T) {
	root := t.TempDir()
	if _, err := mountsBelow(root, "/a"); err == nil {
		t.Error("it is not known what is mounted, and nothing is said")
	}
	mountList(t, root, "/", "/a", "/a/x", "/ab", `/b/with\040space\134`, "/c/d", "/a/x/y")
	got, err := mountsBelow(root, "/a", "/b")
	if want := []string{"/a/x", `/b/with space\`, "/a/x/y"}; !slices.Equal(got, want) || err != nil {
		t.Errorf("%q, want %q: %v", got, want, err)
	}
}

// mountList writes the list of mounts, proc(5), of a machine below root.
func mountList(t *testing.T, root string, points ...string) {
	t.Helper()
	var text strings.Builder
	for i, p := range points {
		fmt.Fprintf(&text, "%d 1 0:42 / %s rw,relatime shared:1 - tmpfs tmpfs rw\n", 20+i, p)
	}
	if _, err := kubeadm.WriteFiles(root, kubeadm.File{Path: "/proc/self/mountinfo", Mode: 0o444, Data: []byte(text.String())}); err != nil {
		t.Fatal(err)
	}
}

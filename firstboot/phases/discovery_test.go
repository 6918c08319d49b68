// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cluster-bootstrap/token/jws"

	"github.com/imgbuild/imgbuild/firstboot/etcd"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

const etcdManifest = kubeadm.ManifestsDir + "/etcd.yaml"

// ring are the control planes of tests that run no programs.
var ring = []node.Peer{{Name: "cp-1", Address: "127.77.1.1"}, {Name: "cp-2", Address: "127.77.1.2"}, {Name: "cp-3", Address: "127.77.1.3"}}

// inRing is a control plane that knows those of the ring and has the authorities.
func inRing(t *testing.T, p node.Peer, ca []kubeadm.File, edits ...func(*node.Node)) *State {
	t.Helper()
	n := &node.Node{Role: node.ControlPlane, Node: node.Machine{Name: p.Name, Address: p.Address}, Cluster: node.Cluster{ControlPlanes: ring}, PKI: node.PKI{Mode: node.PKIShared},
		BootstrapTokens: []node.BootstrapToken{{Token: "abcdef.0123456789abcdef"}}}
	for _, edit := range edits {
		edit(n)
	}
	node.SetDefaults(n)
	c, err := kubeadm.New(n, kubeadm.Host{Hostname: p.Name, KubernetesVersion: "v1.36.3"})
	if err != nil {
		t.Fatal(err)
	}
	s := &State{Root: t.TempDir(), Node: n, Config: c, Start: time.Now(), Log: slog.New(slog.DiscardHandler), Poll: 10 * time.Millisecond}
	if _, err := kubeadm.WriteFiles(s.Root, ca...); err != nil {
		t.Fatal(err)
	}
	return s
}

// etcdPort answers where etcd does: after a while, with the members of which those named have
// served clients, or never.
func etcdPort(t *testing.T, s *State, after time.Duration, served ...string) {
	t.Helper()
	type member struct {
		Name       string   `json:"name"`
		PeerURLs   []string `json:"peerURLs"`
		ClientURLs []string `json:"clientURLs,omitempty"`
	}
	var list []member
	for _, p := range ring {
		m := member{Name: p.Name, PeerURLs: []string{etcd.PeerURL(p.Address)}}
		if slices.Contains(served, p.Name) {
			m.ClientURLs = []string{etcd.ClientURL(p.Address)}
		}
		list = append(list, m)
	}
	cfg, err := s.meetingTLS(&meeting{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(s.self().Address, "2380"))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(after):
		case <-r.Context().Done():
		}
		_ = json.NewEncoder(w).Encode(list)
	}))
	srv.Listener.Close()
	srv.Listener, srv.TLS, srv.Config.ErrorLog = l, cfg, quiet
	srv.StartTLS()
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
}

// quiet takes what servers say about those who only connect.
var quiet = log.New(io.Discard, "", 0)

// never is longer than anybody waits for an answer.
const never = time.Minute

// TestFoundingWaitsForEveryAnswer: a cluster that is slow to answer is heard before a quorum of
// machines without data founds another; where a cluster has answered nobody is waited for.
func TestFoundingWaitsForEveryAnswer(t *testing.T) {
	const timeout = 3 * time.Second // of one question
	ca := authorities(t)
	for name, tc := range map[string]struct {
		after        [2]time.Duration // until cp-1 and cp-2 answer, who are off without it
		served       [2][]string      // in the list of each
		founds, soon bool
	}{
		"the cluster is slow":                     {[2]time.Duration{1, time.Second}, [2][]string{1: {"cp-2", "cp-3"}}, false, true},
		"the third is off":                        {[2]time.Duration{1, 0}, [2][]string{}, true, true},
		"the third is silent":                     {[2]time.Duration{1, never}, [2][]string{}, true, false},
		"a cluster, and one is silent":            {[2]time.Duration{never, 1}, [2][]string{1: {"cp-1", "cp-2", "cp-3"}}, false, true},
		"late for its cluster, and one is silent": {[2]time.Duration{1, never}, [2][]string{0: {"cp-1", "cp-2"}}, true, false},
		"a member is behind, another is slow":     {[2]time.Duration{1, time.Second}, [2][]string{{"cp-1", "cp-2"}, {"cp-1", "cp-2", "cp-3"}}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := inRing(t, ring[2], ca)
			for i, after := range tc.after {
				if after > 0 {
					etcdPort(t, inRing(t, ring[i], ca), after, tc.served[i]...)
				}
			}
			m, err := newMeeting(s.Node, s.self())
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			founds, err := s.meet(t.Context(), m)
			if took := time.Since(began); err != nil || founds != tc.founds || (took < timeout) != tc.soon {
				t.Errorf("founds %v after %s, %v", founds, took, err)
			}
		})
	}
}

// TestDiscoveryAfterACut: what an earlier attempt left is kept if it is of use, and cannot come
// to life meanwhile.
func TestDiscoveryAfterACut(t *testing.T) {
	ca := authorities(t)
	had := &Membership{Joined: true, ID: 7, Members: ring}
	for name, tc := range map[string]struct {
		known *Membership
		want  Membership
	}{
		"nothing was decided":    {nil, Membership{Joined: true}},
		"it had a place":         {had, *had},
		"it wanted to found":     {&Membership{Members: ring}, Membership{Joined: true}},
		"it had no place yet":    {&Membership{Joined: true}, Membership{Joined: true}},
		"etcd came to life":      {had, *had},
		"etcd came, a founder's": {&Membership{Members: ring}, Membership{Members: ring}},
	} {
		t.Run(name, func(t *testing.T) {
			s := inRing(t, ring[2], ca)
			etcdPort(t, inRing(t, ring[0], ca), 1, "cp-1", "cp-2", "cp-3")
			if tc.known != nil {
				if err := s.adopt(tc.known); err != nil {
					t.Fatal(err)
				}
				s.Membership = nil
			}
			if _, err := kubeadm.WriteFiles(s.Root, kubeadm.File{Path: etcdManifest, Mode: 0o600, Data: []byte("old")}); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(name, "etcd came") {
				whenRead(t, s.path(kubeadm.PKIDir+"/etcd/ca.crt"), func() {
					if err := os.MkdirAll(s.path(kubeadm.EtcdDataDir+"/member"), 0o700); err != nil {
						t.Error(err)
					}
				})
			}
			if err := discover(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			known, err := LoadMembership(s.Root)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range []*Membership{known, s.Membership} {
				if m.Joined != tc.want.Joined || m.ID != tc.want.ID || !slices.Equal(m.Members, tc.want.Members) {
					t.Errorf("%+v, want %+v", m, tc.want)
				}
			}
			// The old manifest is out of the kubelet's sight, and the directory not empty: preflight
			// tells by that whose the data is. The next manifest takes its place.
			if left := names(t, s.path(kubeadm.ManifestsDir)); len(left) != 1 || !strings.HasPrefix(left[0], ".") {
				t.Errorf("after discovery there is %v", left)
			}
			if err := place(s, isEtcd); err != nil {
				t.Error(err)
			}
			if left := names(t, s.path(kubeadm.ManifestsDir)); !slices.Equal(left, []string{"etcd.yaml"}) {
				t.Errorf("in the end there is %v", left)
			}
		})
	}
}

// names are those of the files in a directory.
func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// whenRead calls do at the moment somebody opens a file to read it, once.
func whenRead(t *testing.T, path string, do func()) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		do()
		if _, err := f.Write(text); err != nil {
			t.Error(err)
		}
	}()
}

// apiServer serves what API servers of a cluster do to those who are new to it.
type apiServer struct {
	*httptest.Server
	// asked counts connections.
	asked atomic.Int32
	// header is that of API servers, info what it has published, answer called with each.
	header string
	info   map[string]string
	answer func()
	// skew is how far its clock is ahead.
	skew time.Duration
	// nodes are those of the cluster, by name, where it has any.
	mu    sync.Mutex
	nodes map[string]*corev1.Node
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if a.answer != nil {
		a.answer()
	}
	w.Header().Set(a.header, "x")
	w.Header().Set("Date", time.Now().Add(a.skew).UTC().Format(http.TimeFormat))
	if strings.HasSuffix(r.URL.Path, "/cluster-info") {
		_ = json.NewEncoder(w).Encode(corev1.ConfigMap{Data: a.info})
	}
	if strings.HasSuffix(r.URL.Path, "/kubelet-config") {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}})
	}
	if name, ok := strings.CutPrefix(r.URL.Path, "/api/v1/nodes/"); ok {
		a.mu.Lock()
		defer a.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if n := a.nodes[name]; n != nil {
			_ = json.NewEncoder(w).Encode(n)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound})
	}
}

func serveAPI(t *testing.T, ca []kubeadm.File) *apiServer { return serveAPIAt(t, ca, 0) }

// serveAPIAt is one whose clock is ahead, and whose certificate was made by that clock.
func serveAPIAt(t *testing.T, ca []kubeadm.File, skew time.Duration) *apiServer {
	t.Helper()
	s := inRing(t, ring[0], ca)
	s.Start = s.Start.Add(skew)
	pair, err := s.authority()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := s.maker().Leaf(pki.Spec{Name: "apiserver", CommonName: "kube-apiserver", Server: true, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}, pair)
	if err != nil {
		t.Fatal(err)
	}
	document, err := kubeconfig.Discovery(s.Config, pair.CertPEM())
	if err != nil {
		t.Fatal(err)
	}
	signature, err := jws.ComputeDetachedSignature(string(document), "abcdef", "0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	a := &apiServer{header: "Audit-Id", skew: skew, info: map[string]string{"kubeconfig": string(document), "jws-kubeconfig-abcdef": signature}}
	a.Server = httptest.NewUnstartedServer(a)
	a.Config.ErrorLog = quiet
	a.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			a.asked.Add(1)
		}
	}
	a.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Cert.Raw}, PrivateKey: leaf.Key}}}
	a.StartTLS()
	t.Cleanup(a.Close)
	return a
}

// TestFoundingAlone: a machine that founds a cluster alone does not if one is there.
func TestFoundingAlone(t *testing.T) {
	ca, others := authorities(t), authorities(t)
	generate := func(n *node.Node) { n.PKI.Mode, n.PKI.Initiator = node.PKIGenerate, "cp-1" }
	for name, tc := range map[string]struct {
		edit    func(*node.Node)
		change  func(*State, *apiServer)
		refused bool
		asked   bool
	}{
		"a cluster is there":      {func(*node.Node) {}, nil, true, true},
		"no list":                 {func(n *node.Node) { n.Cluster.ControlPlanes = nil }, nil, true, true},
		"authority elsewhere":     {func(n *node.Node) { n.PKI.Mode = node.PKIExternal }, nil, true, true},
		"generate":                {generate, nil, true, true},
		"generate, another token": {func(n *node.Node) { generate(n); n.BootstrapTokens[0].Token = "zzzzzz.0123456789abcdef" }, nil, false, true},
		"another cluster":         {func(*node.Node) {}, func(s *State, _ *apiServer) { _, _ = kubeadm.WriteFiles(s.Root, others...) }, false, true},
		"a load balancer":         {func(*node.Node) {}, func(_ *State, a *apiServer) { a.header = "Server" }, false, true},
		"nobody":                  {func(*node.Node) {}, func(_ *State, a *apiServer) { a.Close() }, false, false},
		"its own API server": {func(*node.Node) {}, func(s *State, a *apiServer) {
			a.answer = func() { _ = os.MkdirAll(s.path(kubeadm.EtcdDataDir+"/member"), 0o700) }
		}, false, true},
		"with data":                    {func(*node.Node) {}, func(s *State, _ *apiServer) { _ = os.MkdirAll(s.path(kubeadm.EtcdDataDir+"/member"), 0o700) }, false, false},
		"its own balancer":             {func(n *node.Node) { n.Cluster.EndpointMode = node.EndpointLocal }, nil, false, false},
		"the endpoint is this machine": {func(n *node.Node) { n.Node.Address = "127.0.0.1"; n.Cluster.ControlPlanes[0].Address = "127.0.0.1" }, nil, false, false},
		"no endpoint":                  {func(n *node.Node) { n.Cluster.Endpoint = "" }, nil, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := serveAPI(t, ca)
			s := inRing(t, ring[0], ca, func(n *node.Node) {
				n.Cluster.ControlPlanes, n.Cluster.Endpoint = slices.Clone(ring[:1]), a.Listener.Addr().String()
				n.Timeouts.Discovery = node.Duration(2 * time.Second)
				tc.edit(n)
			})
			if tc.change != nil {
				tc.change(s, a)
			}
			began := time.Now()
			err := discover(t.Context(), s)
			took := time.Since(began)
			if asked := a.asked.Load() > 0; asked != tc.asked {
				t.Errorf("asked: %v", asked)
			}
			if !tc.refused {
				if err != nil || s.Membership == nil || s.Membership.Joined || took > time.Second {
					t.Errorf("after %s: %+v %v", took, s.Membership, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), "render the cluster again") || s.Membership != nil || !s.absent(MembershipFile) || took < time.Second {
				t.Errorf("after %s: %+v %v", took, s.Membership, err)
			}
			// The next attempt may find that it is gone.
			a.Close()
			if err := discover(t.Context(), s); err != nil || s.Membership == nil {
				t.Errorf("%+v %v", s.Membership, err)
			}
		})
	}
}

// An address that nobody answers for is given up before it is noticed.
func TestFoundingAloneAtASilentAddress(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 77, 1, 9}, Port: 6443}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for { // until its queue is full and it drops what comes
		conn, err := net.DialTimeout("tcp", "127.77.1.9:6443", 200*time.Millisecond)
		if err != nil {
			break
		}
		defer conn.Close()
	}
	s := inRing(t, ring[0], authorities(t), func(n *node.Node) { n.Cluster.ControlPlanes, n.Cluster.Endpoint = ring[:1], "127.77.1.9:6443" })
	began := time.Now()
	if err := discover(t.Context(), s); err != nil || s.Membership == nil || s.Membership.Joined {
		t.Errorf("%+v %v", s.Membership, err)
	}
	if took := time.Since(began); took > answerLimit {
		t.Errorf("it took %s", took)
	}
}

// refusesAnOldDocument: cp-1's disk is wiped, and its document is of the day it was alone. The
// endpoint is at another machine.
func (f *fleet) refusesAnOldDocument(t *testing.T, ca []kubeadm.File) {
	t.Helper()
	n := f.document("cp-1", netip.AddrFrom4([4]byte{127, f.net, 1, 1}))
	n.Cluster.ControlPlanes, n.Timeouts.Discovery = n.Cluster.ControlPlanes[:1], node.Duration(15*time.Second)
	c, err := kubeadm.New(n, kubeadm.Host{Hostname: "cp-1", KubernetesVersion: "v1.36.3"})
	if err != nil {
		t.Fatal(err)
	}
	s := &State{Root: t.TempDir(), Node: n, Config: c, Start: time.Now(), Log: slog.New(slog.DiscardHandler), Poll: 10 * time.Millisecond}
	if _, err := kubeadm.WriteFiles(s.Root, ca...); err != nil {
		t.Fatal(err)
	}
	if err := discover(t.Context(), s); err == nil || !strings.Contains(err.Error(), "a cluster answers at "+c.EndpointURL()) {
		t.Errorf("%+v %v", s.Membership, err)
	}
}

// refusesATakenName: a control plane that joins under the name of another machine's node does not
// get as far as its kubelet. The machine itself comes back to its node.
func (m *member) refusesATakenName(t *testing.T, taken string) {
	t.Helper()
	n, c := *m.state.Node, *m.state.Config
	n.Timeouts.KubernetesAPICall, c.NodeName = node.Duration(15*time.Second), taken
	s := &State{Root: t.TempDir(), Node: &n, Config: &c, Start: time.Now(), Log: slog.New(slog.DiscardHandler), Poll: 100 * time.Millisecond, Membership: &Membership{Joined: true}}
	login, err := os.ReadFile(m.state.path(kubeadm.Dir + "/" + kubeconfig.Admin))
	if err != nil {
		t.Fatal(err)
	}
	const uuid = "/sys/class/dmi/id/product_uuid"
	if _, err := kubeadm.WriteFiles(s.Root, kubeadm.File{Path: kubeadm.Dir + "/" + kubeconfig.Admin, Mode: 0o600, Data: login},
		kubeadm.File{Path: uuid, Mode: 0o400, Data: []byte("03000200-0400-0500-0006-000700080009\n")}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.sharedKubelet(t.Context()); err == nil || !strings.Contains(err.Error(), "give this machine another name") {
		t.Error(err)
	}
	if err := os.Remove(s.path(uuid)); err != nil { // nodes of these tests have none
		t.Fatal(err)
	}
	if k, err := s.sharedKubelet(t.Context()); err != nil || len(k.ClusterDNS) == 0 {
		t.Error(k, err)
	}
}

// TestJoinerIsCutBeforeEtcdHasData: the power of machines that join is cut between the manifest
// of etcd and its data. The kubelet, which starts with the machine, brings etcd to life while
// first boot is at work. It becomes the member that it was to be, and the next one can join.
func TestJoinerIsCutBeforeEtcdHasData(t *testing.T) {
	f := newFleet(t, documentOf(node.ControlPlane, node.PKIShared, "cp-1", "cp-2", "cp-3"))
	ca := authorities(t)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	on := func(name string, last byte) *member {
		m := f.on(name, last)
		m.deliver(ca...)
		must(identity(ctx, m.state))
		return m
	}
	const saved = "/saved.yaml"
	run := func(m *member, manifest string) { m.wg.Go(func() { m.pod(m.root + manifest) }) }

	first := on("cp-1", 1)
	must(first.state.adopt(&Membership{}))
	must(certs(ctx, first.state))
	must(placeEtcd(ctx, first.state))
	run(first, etcdManifest)
	must(first.state.awaitEtcd(ctx))

	cut := func(name string, last byte) (*member, uint64) {
		m := on(name, last)
		must(discover(ctx, m.state))
		must(certs(ctx, m.state))
		must(placeEtcd(ctx, m.state))
		id := m.state.Membership.ID
		if id == 0 {
			t.Fatalf("%+v", m.state.Membership)
		}
		text, err := os.ReadFile(m.state.path(etcdManifest))
		must(err)
		must(os.WriteFile(m.state.path(saved), text, 0o600))
		m.off()
		return on(name, last), id
	}
	started := func(m *member, id uint64) {
		c, err := m.state.etcdOfOthers(ctx)
		must(err)
		defer c.Close()
		must(c.AwaitStart(ctx, id, m.state.self(), func([]node.Peer) error { return nil }))
	}

	// It comes to life just after it was seen that there is no data.
	m, id := cut("cp-2", 2)
	must(discover(ctx, m.state))
	if m.state.Membership.ID != id || !m.state.absent(etcdManifest) {
		t.Fatalf("%+v, the manifest is gone: %v", m.state.Membership, m.state.absent(etcdManifest))
	}
	run(m, saved)
	started(m, id)
	must(m.state.addLearner(ctx))
	if m.state.Membership.ID != id {
		t.Fatalf("member %x, was %x", m.state.Membership.ID, id)
	}
	must(joinEtcd(ctx, m.state))

	// It came to life, and what an earlier release remembers is only that it joins.
	m, id = cut("cp-3", 3)
	must(m.state.adopt(&Membership{Joined: true}))
	run(m, saved)
	started(m, id)
	if !m.state.etcdHasData() || etcdPlaced(ctx, m.state) == nil {
		t.Error("nothing is left to do")
	}
	must(placeEtcd(ctx, m.state))
	if m.state.Membership.ID != id || len(m.state.Membership.Members) != 3 {
		t.Fatalf("%+v, was %x", m.state.Membership, id)
	}
	must(etcdPlaced(ctx, m.state))
	must(joinEtcd(ctx, m.state))
	f.etcdMembers(t, "cp-1", "cp-2", "cp-3")
}

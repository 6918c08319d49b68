// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

var three = []node.Peer{{Name: "cp-3", Address: "127.3.0.3"}, {Name: "cp-1", Address: "127.3.0.1"}, {Name: "cp-2", Address: "127.3.0.2"}}

// founder is the state of one of three machines, whose API servers use port.
func founder(t *testing.T, name string, port int32) *State {
	s := &State{Root: t.TempDir(), Node: kubeadmtest.Document(), Config: kubeadmtest.Config(t), Start: time.Now(), Log: slog.New(slog.DiscardHandler)}
	s.Membership = &Membership{Members: three}
	s.Config.APIPort = port
	for _, p := range three {
		if p.Name == name {
			s.Config.NodeName, s.Config.Address = p.Name, netip.MustParseAddr(p.Address)
		}
	}
	return s
}

func TestPredecessors(t *testing.T) {
	for _, c := range []struct {
		name, want string
		membership *Membership
	}{
		{"cp-1", "", &Membership{Members: three}},
		{"cp-2", "cp-1", &Membership{Members: three}},
		{"cp-3", "cp-1 cp-2", &Membership{Members: three}},
		{"cp-3", "", &Membership{Joined: true, Members: three}},
		{"cp-3", "", &Membership{}},
		{"cp-3", "", nil},
	} {
		s := founder(t, c.name, 6443)
		s.Membership = c.membership
		var got []string
		for _, p := range s.predecessors() {
			got = append(got, p.Name)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s with %+v waits for %v, want %q", c.name, c.membership, got, c.want)
		}
	}
}

// apiOf is an API server on a peer's address whose health the test decides.
func apiOf(t *testing.T, p node.Peer, port string) (*httptest.Server, *atomic.Bool) {
	t.Helper()
	healthy := new(atomic.Bool)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !healthy.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	l, err := net.Listen("tcp", net.JoinHostPort(p.Address, port))
	if err != nil {
		t.Fatal(err)
	}
	server.Listener.Close()
	server.Listener = l
	server.StartTLS()
	t.Cleanup(server.Close)
	return server, healthy
}

// TestTakeTurn lets the last of three wait for servers on loopback addresses, where a machine
// is never off.
func TestTakeTurn(t *testing.T) {
	second, secondHealthy := apiOf(t, three[2], "0")
	u, _ := url.Parse(second.URL)
	port, _ := strconv.ParseInt(u.Port(), 10, 32)
	first, firstHealthy := apiOf(t, three[1], u.Port())

	s := founder(t, "cp-3", int32(port))
	s.Node.Timeouts.ControlPlaneComponentHealthCheck = node.Duration(4 * time.Minute)
	time.AfterFunc(2*time.Second, func() { firstHealthy.Store(true) })
	if got := s.takeTurn(t.Context()); got != first.URL {
		t.Errorf("the last followed %q, want the first that is healthy, %s", got, first.URL)
	}
	secondHealthy.Store(true)
	if got := founder(t, "cp-1", int32(port)).takeTurn(t.Context()); got != "" {
		t.Errorf("the first machine waited for %s", got)
	}
	s.Node.Timeouts.ControlPlaneComponentHealthCheck = node.Duration(4 * time.Second)
	firstHealthy.Store(false)
	if got := s.takeTurn(t.Context()); got != second.URL {
		t.Errorf("with the first too slow, the last followed %q, want %s", got, second.URL)
	}
	secondHealthy.Store(false)
	if got := s.takeTurn(t.Context()); got != "" {
		t.Errorf("a server that is not healthy was followed: %s", got)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := s.takeTurn(ended); got != "" {
		t.Errorf("after the end: %s", got)
	}
}

// TestKubeletFollows goes through what kubelet.conf says: of the first until the API server's
// manifest is there, kept over a run that finds both, and of this machine in the end.
func TestKubeletFollows(t *testing.T) {
	own, healthy := apiOf(t, three[2], "0")
	healthy.Store(true)
	u, _ := url.Parse(own.URL)
	port, _ := strconv.ParseInt(u.Port(), 10, 32)
	first := "https://" + net.JoinHostPort(three[1].Address, u.Port())
	s := founder(t, "cp-2", int32(port))
	s.Node.Timeouts.ControlPlaneComponentHealthCheck = node.Duration(4 * time.Second)
	var restarts int
	s.RestartUnit = func(context.Context, string) error { restarts++; return nil }
	server := func() string {
		t.Helper()
		text, err := os.ReadFile(s.path(kubeadm.Dir + "/" + kubeconfig.Kubelet))
		if err != nil {
			t.Fatal(err)
		}
		c, _, err := kubeconfig.Current(text)
		if err != nil {
			t.Fatal(err)
		}
		return c.Server
	}
	run := func(f func(context.Context, *State) error) {
		t.Helper()
		if err := f(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	run(certs)
	run(kubeconfigs)
	if got := server(); got != first {
		t.Errorf("before the API server is placed the kubelet goes to %s", got)
	}
	if err := place(s, isAPIServer); err != nil {
		t.Fatal(err)
	}
	run(kubeconfigs)
	if got := server(); got != first {
		t.Errorf("a second run sent a kubelet that runs to %s without a restart", got)
	}
	healthy.Store(false)
	if err := connectKubelet(t.Context(), s); err == nil || server() != first {
		t.Errorf("an API server that is not healthy: %v, the kubelet goes to %s", err, server())
	}
	healthy.Store(true)
	run(connectKubelet)
	if got := server(); got != own.URL || restarts != 1 {
		t.Errorf("in the end the kubelet goes to %s, after %d restarts", got, restarts)
	}
	run(connectKubelet)
	run(kubeconfigsThere)
	if restarts != 1 {
		t.Errorf("%d restarts", restarts)
	}
}

// TestMarkMeanwhile lets the API server of the first machine mark the node of the second: not
// before it is healthy and the node is there, once, and never a node of the first itself.
func TestMarkMeanwhile(t *testing.T) {
	first := founder(t, "cp-1", 6443)
	if err := certs(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(first.path(kubeadm.PKIDir+"/apiserver.crt"), first.path(kubeadm.PKIDir+"/apiserver.key"))
	if err != nil {
		t.Fatal(err)
	}
	var healthy, registered atomic.Bool
	var asked atomic.Int32
	patches := make(chan corev1.Node, 9)
	reply := func(w http.ResponseWriter, status int, o any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(o) // the client says what it did not get
	}
	own := corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: "cp-2", ResourceVersion: "7"}}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/livez" && healthy.Load():
		case r.URL.Path == "/api/v1/nodes/cp-2" && r.Method == http.MethodPatch:
			var n corev1.Node
			if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
				t.Error(err)
			}
			patches <- n
			reply(w, http.StatusOK, own)
		case r.URL.Path == "/api/v1/nodes/cp-2" && r.Method == http.MethodGet:
			if asked.Add(1); registered.Load() {
				reply(w, http.StatusOK, own)
				return
			}
			reply(w, http.StatusNotFound, apierrors.NewNotFound(corev1.Resource("nodes"), "cp-2").Status())
		default:
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	l, err := net.Listen("tcp", net.JoinHostPort(three[1].Address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	server.Listener.Close()
	server.Listener, server.TLS = l, &tls.Config{Certificates: []tls.Certificate{cert}}
	server.StartTLS()
	t.Cleanup(server.Close)

	s := founder(t, "cp-2", int32(l.Addr().(*net.TCPAddr).Port))
	if err := os.CopyFS(s.Root, os.DirFS(first.Root)); err != nil {
		t.Fatal(err)
	}
	if err := kubeconfigs(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	s.markMeanwhile(t.Context())() // ends at once
	stop := s.markMeanwhile(t.Context())
	time.Sleep(time.Second)
	if n := asked.Load(); n > 0 {
		t.Errorf("a server that is not healthy was asked for the node %d times", n)
	}
	healthy.Store(true)
	time.Sleep(time.Second)
	select {
	case n := <-patches:
		t.Errorf("a node that is not there was marked: %+v", n)
	default:
	}
	registered.Store(true)
	var n corev1.Node
	select {
	case n = <-patches:
	case <-time.After(time.Minute):
		t.Fatal("nothing was marked")
	}
	_, labelled := n.Labels["node-role.kubernetes.io/control-plane"]
	if len(n.Spec.Taints) != 1 || n.Spec.Taints[0].Key != "node-role.kubernetes.io/control-plane" || !labelled || n.ResourceVersion != "7" {
		t.Errorf("the node was marked with %+v, labels %v, as version %s", n.Spec.Taints, n.Labels, n.ResourceVersion)
	}
	time.Sleep(time.Second)
	if stop(); len(patches) > 0 {
		t.Error("the node was marked again")
	}
	before := asked.Load()
	stop = first.markMeanwhile(t.Context())
	time.Sleep(time.Second)
	if stop(); asked.Load() != before {
		t.Error("the first machine asked others")
	}
}

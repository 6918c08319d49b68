// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
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

// TestTakeTurn lets the last of three wait for servers on loopback addresses. A machine that
// refuses connections is on; that one is waited for as long as the document says.
func TestTakeTurn(t *testing.T) {
	var healthy atomic.Bool
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !healthy.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	l, err := net.Listen("tcp", three[2].Address+":0") // cp-2; cp-1 is silent
	if err != nil {
		t.Fatal(err)
	}
	api.Listener.Close()
	api.Listener = l
	api.StartTLS()
	defer api.Close()
	u, _ := url.Parse(api.URL)
	port, _ := strconv.ParseInt(u.Port(), 10, 32)

	s := founder(t, "cp-3", int32(port))
	s.Node.Timeouts.ControlPlaneComponentHealthCheck = node.Duration(4 * time.Minute)
	time.AfterFunc(2*time.Second, func() { healthy.Store(true) })
	if got := s.takeTurn(t.Context()); got != api.URL || !healthy.Load() {
		t.Errorf("after waiting for a server that becomes healthy: %q", got)
	}
	if got := founder(t, "cp-1", int32(port)).takeTurn(t.Context()); got != "" {
		t.Errorf("the first machine waited for %s", got)
	}
	healthy.Store(false)
	s.Node.Timeouts.ControlPlaneComponentHealthCheck = node.Duration(4 * time.Second)
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
	s := founder(t, "cp-2", 6443)
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
	if got := server(); got != "https://127.3.0.1:6443" {
		t.Errorf("before the API server is placed the kubelet goes to %s", got)
	}
	if err := place(s, isAPIServer); err != nil {
		t.Fatal(err)
	}
	run(kubeconfigs)
	if got := server(); got != "https://127.3.0.1:6443" {
		t.Errorf("a second run sent a kubelet that runs to %s without a restart", got)
	}
	run(connectKubelet)
	if got := server(); got != "https://127.3.0.2:6443" || restarts != 1 {
		t.Errorf("in the end the kubelet goes to %s, after %d restarts", got, restarts)
	}
	run(connectKubelet)
	run(kubeconfigsThere)
	if restarts != 1 {
		t.Errorf("%d restarts", restarts)
	}
}

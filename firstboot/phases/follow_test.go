// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/imgbuild/imgbuild/firstboot/balancer"
	"github.com/imgbuild/imgbuild/firstboot/endpoint"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/vip"
)

// cpNode is a control plane of ours that is Ready and announces peers.
func cpNode(name, address, peers string) corev1.Node {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{kubeadm.ControlPlaneLabel: "", kubeadm.DeliveryLabel: "verity"},
		Annotations: map[string]string{endpoint.Annotation: peers}}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: "192.0.2.10"}, {Type: corev1.NodeInternalIP, Address: "2001:db8::99"}, {Type: corev1.NodeInternalIP, Address: address}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	return n
}

// following is a follower of a machine whose units are noted, in a cluster of some nodes.
type following struct {
	*Follower
	units *[]string
	nodes []corev1.Node
	owned bool
	time  time.Time
}

func newFollowing(t *testing.T, edit func(*node.Node)) *following {
	t.Helper()
	s, units := endpointState(t, edit)
	s.Log = slog.New(slog.DiscardHandler)
	s.StopUnit = func(_ context.Context, unit string) error { *units = append(*units, "stop "+unit); return nil }
	f := &following{units: units, owned: true, time: time.Now()}
	f.nodes = []corev1.Node{cpNode("cp-1", "192.0.2.11", ""), cpNode("cp-2", "192.0.2.12", "192.0.2.11"), {ObjectMeta: metav1.ObjectMeta{Name: "w-1"}}}
	f.Follower = &Follower{State: s, Now: func() time.Time { return f.time }, Owned: func(context.Context) bool { return f.owned },
		Nodes: func(context.Context) ([]corev1.Node, error) { return f.nodes, nil },
		Announce: func(_ context.Context, value string) error {
			*units = append(*units, "announce "+value)
			f.nodes[0].Annotations[endpoint.Annotation] = value
			return nil
		},
		Reload: func(_ context.Context, unit string) error { *units = append(*units, "reload "+unit); return nil },
	}
	return f
}

// did returns what happened since the last time.
func (f *following) did() string {
	out := strings.Join(*f.units, ", ")
	*f.units = nil
	return out
}

func (f *following) once(t *testing.T) *Followed {
	t.Helper()
	r, err := f.Once(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestFollowAfterABoot(t *testing.T) {
	f := newFollowing(t, func(*node.Node) {})
	r := f.once(t)
	if want := "reload keepalived.service, announce 192.0.2.12, start keepalived.service"; f.did() != want || r.Verdict != endpoint.Admitted || !r.Runs {
		t.Errorf("%+v", r)
	}
	if r = f.once(t); f.did() != "" || len(r.Changed) > 0 || !r.Runs {
		t.Errorf("nothing is to be done: %+v", r)
	}
	// A third one.
	f.nodes = append(f.nodes, cpNode("cp-3", "192.0.2.13", ""))
	r = f.once(t)
	if got := f.did(); got != "reload keepalived.service, announce 192.0.2.12,192.0.2.13" || !r.Runs {
		t.Errorf("%q %+v", got, r)
	}
	if text := content(t, f.State, vip.ConfigFile); !strings.Contains(text, "192.0.2.13 min_ttl") || strings.Contains(text, "2001:") || strings.Contains(text, "192.0.2.10 min_ttl") {
		t.Error(text)
	}
}

func TestFollowMakesUpForAReload(t *testing.T) {
	f := newFollowing(t, func(*node.Node) {})
	f.once(t)
	f.did()
	f.nodes = append(f.nodes, cpNode("cp-3", "192.0.2.13", ""))
	working, broken := f.Reload, errors.New("broken")
	f.Reload = func(context.Context, string) error { return broken }
	if _, err := f.Once(t.Context()); !errors.Is(err, broken) || f.did() != "" {
		t.Errorf("%v; it announced what keepalived has not read", err)
	}
	f.Reload = working
	f.once(t)
	if got := f.did(); got != "reload keepalived.service, announce 192.0.2.12,192.0.2.13" {
		t.Error(got)
	}
}

func TestFollowHoldsAMachineThatIsUnknown(t *testing.T) {
	f := newFollowing(t, func(*node.Node) {})
	f.nodes[1].Annotations[endpoint.Annotation] = "192.0.2.13"
	if r := f.once(t); r.Runs || r.Verdict != endpoint.Held || strings.Contains(f.did(), "start") {
		t.Errorf("%+v", r)
	}
	// Nobody has the address, then somebody, then nobody for a minute.
	for _, step := range []struct {
		after time.Duration
		owned bool
		runs  bool
	}{{time.Second, false, false}, {59 * time.Second, false, false}, {time.Second, true, false}, {time.Second, false, false}, {59 * time.Second, false, false}, {time.Second, false, true}} {
		f.time, f.owned = f.time.Add(step.after), step.owned
		if r := f.once(t); r.Runs != step.runs {
			t.Errorf("%+v: %+v", step, r)
		}
	}
	if got := f.did(); got != "start keepalived.service" {
		t.Error(got)
	}
}

func TestFollowLeaves(t *testing.T) {
	f := newFollowing(t, func(*node.Node) {})
	f.once(t)
	f.did()
	all := f.nodes
	f.nodes = all[1:]
	if r := f.once(t); r.Runs || r.Verdict != endpoint.Expelled || f.did() != "stop keepalived.service" || !f.State.absent(vip.AdmittedFile) {
		t.Errorf("%+v", r)
	}
	f.owned = false
	f.time = f.time.Add(time.Hour)
	if r := f.once(t); r.Runs || f.did() != "" {
		t.Errorf("a machine that is no control plane takes the address: %+v", r)
	}
	f.nodes = all
	if r := f.once(t); !r.Runs || f.did() != "start keepalived.service" {
		t.Errorf("%+v", r)
	}
}

func TestFollowWithoutAnAnswer(t *testing.T) {
	f := newFollowing(t, func(*node.Node) {})
	f.nodes = f.nodes[2:]
	if _, err := f.Once(t.Context()); err == nil || !strings.Contains(err.Error(), kubeadm.ControlPlaneLabel) || f.did() != "" {
		t.Error(err)
	}
	gone := errors.New("no answer")
	f.Follower.Nodes = func(context.Context) ([]corev1.Node, error) { return nil, gone }
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	f.Follower.Nodes = func(context.Context) ([]corev1.Node, error) {
		if asked++; asked == 3 {
			cancel()
		}
		return nil, gone
	}
	f.time = time.Now()
	if err := f.Run(ctx, 0, time.Millisecond); !errors.Is(err, gone) || asked != 3 {
		t.Errorf("a machine that is held gave up after %d: %v", asked, err)
	}
}

func TestWorkerFollows(t *testing.T) {
	f := newFollowing(t, func(n *node.Node) {
		n.Role, n.Node.Name, n.Node.Address, n.VIP = node.Worker, "w-1", "192.0.2.21", node.VIP{Provider: node.VIPNone}
		n.Cluster.Endpoint, n.Cluster.EndpointMode = "api.example.com:7443", node.EndpointLocal
	})
	f.APIServers = func(context.Context) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("192.0.2.12"), netip.MustParseAddr("192.0.2.13"), netip.MustParseAddr("2001:db8::1")}, nil
	}
	if err := f.Run(t.Context(), 0, time.Millisecond); err != nil || f.did() != "reload haproxy.service" {
		t.Error(err)
	}
	var servers []string
	for line := range strings.Lines(content(t, f.State, balancer.ConfigFile)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "server" {
			servers = append(servers, fields[1]+"="+fields[2])
		}
	}
	if want := []string{"192.0.2.13=192.0.2.13:6443", "cp-1=192.0.2.11:6443", "cp-2=192.0.2.12:6443"}; !slices.Equal(servers, want) {
		t.Errorf("%q", servers)
	}
	f.APIServers = func(context.Context) ([]netip.Addr, error) { return nil, nil }
	if err := f.Run(t.Context(), -1, time.Millisecond); err == nil || f.did() != "" {
		t.Errorf("no API server at all was believed: %v", err)
	}
}

func TestPhaseFollow(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*State)
		want string
		file bool
	}{
		{"a founder waits for the timer", func(*State) {}, "", true},
		{"a machine that joins", func(s *State) { s.Membership = &Membership{Joined: true} }, "start " + FollowUnit, true},
		{"without anything that follows", func(s *State) { s.Node.VIP = node.VIP{Provider: node.VIPExternal} }, "", false},
	} {
		s, units := endpointState(t, func(*node.Node) {})
		c.edit(s)
		for range 2 {
			*units = nil
			if err := beginToFollow(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Join(*units, ", "); got != c.want || s.absent(FollowFile) == c.file {
			t.Errorf("%s: %q, file %v", c.name, got, !s.absent(FollowFile))
		}
	}
}

func TestDamagedMemory(t *testing.T) {
	f := newFollowing(t, func(*node.Node) {})
	if _, err := kubeadm.WriteFiles(f.State.Root, kubeadm.File{Path: FollowFile, Mode: 0o644, Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Once(t.Context()); err == nil || !strings.Contains(err.Error(), "write [] to it from a privileged pod") {
		t.Error(err)
	}
	if err := os.WriteFile(f.State.path(FollowFile), []byte("[]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f.once(t)
	if text := content(t, f.State, FollowFile); !strings.Contains(text, "cp-2") {
		t.Errorf("it is not made again: %s", text)
	}
}

// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api/v1"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/addons/cni"
	"github.com/imgbuild/imgbuild/firstboot/check"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
)

// recorder keeps the states phases ended in.
type recorder struct {
	t     *testing.T
	ended map[string]phase.State
	name  string
}

func (r *recorder) Transition(t phase.Transition) {
	if t.State != phase.Running {
		r.t.Logf("%s phase %s %s %.2fs %v", r.name, t.Phase, t.State, t.Took.Seconds(), t.Err)
		r.ended[t.Phase] = t.State
	}
}

func runOnce(t *testing.T, ctx context.Context, s *State) (map[string]phase.State, error) {
	t.Helper()
	g, err := Graph(s.Node.Timeouts)
	if err != nil {
		t.Fatal(err)
	}
	j, err := phase.OpenJournal(s.path(phase.JournalPath))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	rec := &recorder{t: t, ended: map[string]phase.State{}}
	r := &phase.Runner[*State]{Graph: g, Journal: j, Role: string(s.Node.Role), Document: "sha256:test", Observer: rec}
	err = r.Run(ctx, s)
	return rec.ended, err
}

// TestFirstBootOfARealControlPlane runs every phase against a real etcd and a real
// control plane, then runs them again, and compares the objects with what was wanted.
func TestFirstBootOfARealControlPlane(t *testing.T) {
	for name, edit := range map[string]func(*node.Node){
		"verity": func(*node.Node) {},
		"oci": func(n *node.Node) {
			n.Delivery.Mode, n.Cluster.ProxyMode = node.DeliveryOCI, node.ProxyUpstream
			n.Network.Provider, n.Network.Manifests = node.NetworkNone, []string{"/etc/imgbuild/manifests/00-own.yaml"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			m, s := newMachine(t, ctx)
			defer func() { cancel(); m.wg.Wait() }()
			edit(s.Node)
			for _, f := range s.Node.Network.Manifests {
				if _, err := kubeadm.WriteFiles(s.Root, kubeadm.File{Path: f, Mode: 0o600, Data: []byte(ownManifest)}); err != nil {
					t.Fatal(err)
				}
			}
			if s.Node.Network.Provider == node.NetworkNone {
				start, once := s.StartUnit, sync.Once{}
				s.StartUnit = func(c context.Context, unit string) error {
					once.Do(func() { m.wg.Go(func() { lateNetwork(t, ctx, s) }) })
					return start(c, unit)
				}
			}
			bootTwice(t, ctx, s)
			compareUserObjects(t, ctx, s)
		})
	}
}

// ownNetwork is a CNI configuration that is not the image's.
const ownNetwork = `{"cniVersion": "1.0.0", "name": "own", "plugins": [{"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.11.0.0/24"}}]}`

// lateNetwork is a pod network of somebody's own: it writes its configuration some time after its
// objects were applied. Until then first boot must not be over.
func lateNetwork(t *testing.T, ctx context.Context, s *State) {
	for s.userObjectsThere(ctx) != nil && ctx.Err() == nil {
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(3 * time.Second) // in which a hand-over too early would happen
	if !s.absent(DoneMarker) {
		t.Error("first boot was over before pods could be attached")
	}
	if !s.absent(cni.ConfigFile) {
		t.Error("the image's own network is configured")
	}
	if _, err := kubeadm.WriteFiles(s.Root, kubeadm.File{Path: "/etc/cni/net.d/20-own.conflist", Mode: 0o644, Data: []byte(ownNetwork)}); err != nil && ctx.Err() == nil {
		t.Error(err)
	}
}

func bootTwice(t *testing.T, ctx context.Context, s *State) {
	if _, err := runOnce(t, ctx, s); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.path(DoneMarker)); err != nil {
		t.Error(err)
	}
	ended, err := runOnce(t, ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{BaseImage, Certs, Kubeconfig, KubeletStart, Etcd, ControlPlane, UploadConfig, Addons, BootstrapToken} {
		if ended[name] != phase.Checked {
			t.Errorf("second run: phase %s ended %s, not checked", name, ended[name])
		}
	}
	compareObjects(t, ctx, s)
	c, err := s.client()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range check.Run(ctx, &check.Env{Root: s.Root, Config: s.Config, First: true, API: c}) {
		if r.Status == check.Fail {
			t.Errorf("check %s %s: %v", r.ID, r.Title, r.Problems)
		}
	}
	dumpForReferee(t, ctx, s)
}

// compareObjects reads every object back and compares what was written with what is
// there, leaving out what the server adds.
func compareObjects(t *testing.T, ctx context.Context, s *State) {
	c, err := s.client()
	if err != nil {
		t.Fatal(err)
	}
	phases := slices.Concat([]addons.Phase{addons.Admins}, uploadObjects, addonObjects, tokenObjects)
	objs, err := s.objects(phases...)
	if err != nil {
		t.Fatal(err)
	}
	// kubeadm's 33 are these, less four of upload-certs, which nobody asked for.
	if len(objs) < 29 {
		t.Errorf("only %d objects are wanted", len(objs))
	}
	for _, o := range objs {
		got := reflect.New(reflect.TypeOf(o.Obj).Elem()).Interface().(runtime.Object)
		meta := got.(metav1.Object)
		meta.SetNamespace(o.Obj.(metav1.Object).GetNamespace())
		meta.SetName(o.Obj.(metav1.Object).GetName())
		if err := c.Get(ctx, got); err != nil {
			t.Error(err)
			continue
		}
		if diff := missing("", asJSON(t, o.Obj), asJSON(t, got)); diff != "" {
			t.Errorf("%s: %s", addons.Key(o.Obj), diff)
		}
	}
	n, err := c.Node(ctx, m1)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := n.Labels[kubeadm.ControlPlaneLabel]; !ok {
		t.Errorf("the node lacks its role's label: %v", slices.Sorted(maps.Keys(n.Labels)))
	}
	if !slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == kubeadm.ControlPlaneTaint }) {
		t.Errorf("the node lacks its role's taint: %v", n.Spec.Taints)
	}
}

const m1 = "cp-1"

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// clientAuth refers to a file with certificate and key.
func clientAuth(file string) clientcmdapi.AuthInfo {
	return clientcmdapi.AuthInfo{ClientCertificate: file, ClientKey: file}
}

func asJSON(t *testing.T, v any) any {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// missing returns the first place at which got lacks or changes something of want.
func missing(path string, want, got any) string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return path + " is not a mapping"
		}
		for _, k := range slices.Sorted(maps.Keys(w)) {
			if path == "" && (k == "apiVersion" || k == "kind") || k == "status" || k == "creationTimestamp" || k == "resourceVersion" || w[k] == nil {
				continue
			}
			if k == "expiration" { // counted from each run's start
				continue
			}
			if d := missing(path+"."+k, w[k], g[k]); d != "" {
				return d
			}
		}
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return fmt.Sprintf("%s is %v, want %v", path, got, want)
		}
		for i := range w {
			if d := missing(fmt.Sprintf("%s[%d]", path, i), w[i], g[i]); d != "" {
				return d
			}
		}
	default:
		if fmt.Sprint(want) != fmt.Sprint(got) && fmt.Sprint(want) != "" {
			return fmt.Sprintf("%s is %v, want %v", path, got, want)
		}
	}
	return ""
}

// dumpForReferee keeps the machine up for another tool to look at when asked to.
func dumpForReferee(t *testing.T, ctx context.Context, s *State) {
	command := os.Getenv("IMGBUILD_TEST_REFEREE")
	if command == "" {
		return
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Env = append(os.Environ(), "ROOT="+s.Root, "NODE="+s.Config.NodeName, "IP="+s.Config.Address.String(), "ENDPOINT="+s.Config.Endpoint())
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("the referee objects: %v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/baseimage"
	"github.com/imgbuild/imgbuild/firstboot/check"
	"github.com/imgbuild/imgbuild/firstboot/cluster"
	"github.com/imgbuild/imgbuild/firstboot/containerd/containerdtest"
	"github.com/imgbuild/imgbuild/firstboot/host"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
)

// componentsEnv names a directory that holds the programs etcd and kubernetes (the latter
// chosen by argv[0]) as assets/components builds them.
const componentsEnv = "IMGBUILD_TEST_COMPONENTS"

// machine stands in for the parts of a node that need a kernel of their own: it runs the
// static pods of the manifest directory as processes and registers the node the way a
// kubelet does, with the credentials firstboot wrote. etcd and the control plane are real.
type machine struct {
	t          *testing.T
	components string
	root       string
	ctx        context.Context
	wg         sync.WaitGroup
	start      sync.Once
	node       string
	// loopback and advertise replace addresses that several machines cannot share here.
	loopback, advertise string
}

// startUnit is what systemd does in the machine.
func (m *machine) startUnit(_ context.Context, unit string) error {
	if unit != KubeletUnit {
		return fmt.Errorf("unit %s is not expected", unit)
	}
	m.start.Do(func() { m.wg.Go(m.kubelet) })
	return nil
}

func (m *machine) kubelet() {
	at := m.loopback
	if at == "" {
		at = "127.0.0.1"
	}
	l, err := net.Listen("tcp", at+":10248")
	if err != nil {
		m.t.Error(err)
		return
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	m.wg.Go(func() { _ = srv.Serve(l) })
	if _, err := os.Stat(filepath.Join(m.root, kubeadm.BootstrapConf)); err == nil {
		m.bootstrap()
	}
	m.wg.Go(m.register)
	running := map[string]bool{}
	for m.ctx.Err() == nil {
		files, _ := filepath.Glob(filepath.Join(m.root, kubeadm.ManifestsDir, "[^.]*.yaml"))
		for _, f := range files {
			if !running[f] {
				running[f] = true
				m.wg.Go(func() { m.pod(f) })
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	srv.Close()
}

// pod runs a manifest's command with the node's paths moved below the root.
func (m *machine) pod(file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		m.t.Error(err)
		return
	}
	var pod corev1.Pod
	if err := yaml.Unmarshal(text, &pod); err != nil {
		m.t.Errorf("%s: %v", file, err)
		return
	}
	argv := m.moved(pod.Spec.Containers[0].Command...)
	program := filepath.Join(m.components, "kubernetes")
	if filepath.Base(argv[0]) == "etcd" {
		program = filepath.Join(m.components, "etcd")
	}
	log, err := os.Create(filepath.Join(m.t.ArtifactDir(), pod.Name+".log"))
	if err != nil {
		m.t.Error(err)
		return
	}
	defer log.Close()
	goruntime.LockOSThread() // Pdeathsig follows the thread that starts the process
	defer goruntime.UnlockOSThread()
	for m.ctx.Err() == nil {
		cmd := exec.CommandContext(m.ctx, program)
		cmd.Args = argv
		cmd.Stdout, cmd.Stderr = log, log
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = 5 * time.Second
		_ = cmd.Run()
		time.Sleep(200 * time.Millisecond)
	}
}

// moved returns args with the node's paths below the root. The kubeconfigs of the
// components hold their certificates, so no file has to be rewritten for this.
func (m *machine) moved(args ...string) []string {
	out := slices.Clone(args)
	for i, a := range out {
		for _, dir := range []string{"/etc/kubernetes", "/var/lib/etcd"} {
			a = strings.ReplaceAll(a, "="+dir, "="+m.root+dir)
		}
		if m.loopback != "" {
			a = strings.ReplaceAll(a, "127.0.0.1", m.loopback)
			if ip, ok := strings.CutPrefix(a, "--advertise-address="); ok {
				a = "--advertise-address=" + m.advertise
				out = append(out, "--bind-address="+ip)
			}
		}
		out[i] = a
	}
	return out
}

// register creates the node as a kubelet would and reports it Ready once the CNI
// configuration exists.
func (m *machine) register() {
	conf, err := os.ReadFile(filepath.Join(m.root, "/etc/kubernetes/kubelet.conf"))
	if err != nil {
		m.t.Error(err)
		return
	}
	// The link that kubelet.conf names leads to an absolute path, as the kubelet makes it.
	target, err := os.Readlink(filepath.Join(m.root, kubeadm.KubeletPEM))
	if err != nil {
		m.t.Error(err)
		return
	}
	moved := filepath.Join(m.t.TempDir(), "kubelet.conf")
	conf = bytes.ReplaceAll(conf, []byte(m.root+kubeadm.KubeletPEM), []byte(kubeadm.KubeletPEM))
	conf = bytes.ReplaceAll(conf, []byte(kubeadm.KubeletPEM), []byte(m.root+target))
	if err := os.WriteFile(moved, conf, 0o600); err != nil {
		m.t.Error(err)
		return
	}
	c, err := cluster.FromFile(moved, "")
	if err != nil {
		m.t.Error(err)
		return
	}
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.node, Labels: map[string]string{"kubernetes.io/hostname": m.node}}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.Now()}}
	// The kubelet's first status says NotReady; flannel's file appears once its pod runs.
	if err := c.Apply(m.ctx, n, true); err != nil && m.ctx.Err() == nil {
		m.t.Error(err)
	}
	m.wg.Go(func() { m.heartbeat(moved) })
	dir := filepath.Join(m.root, "/run/flannel")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		m.t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "subnet.env")); err == nil {
		return
	}
	subnet := "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.0.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
	if err := os.WriteFile(filepath.Join(dir, "subnet.env"), []byte(subnet), 0o644); err != nil {
		m.t.Error(err)
	}
}

// heartbeat reports the node Ready again and again, as its controller expects.
func (m *machine) heartbeat(conf string) {
	cfg, err := clientcmd.BuildConfigFromFlags("", conf)
	if err != nil {
		m.t.Error(err)
		return
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		m.t.Error(err)
		return
	}
	for m.ctx.Err() == nil {
		patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.Now()}}}})
		if err != nil {
			m.t.Error(err)
			return
		}
		// A server that is not there at this moment will be for the next beat.
		_, _ = client.CoreV1().Nodes().PatchStatus(m.ctx, m.node, patch)
		select {
		case <-m.ctx.Done():
		case <-time.After(5 * time.Second):
		}
	}
}

// newMachine prepares a root directory and the state of a run on it.
func newMachine(t *testing.T, ctx context.Context) (*machine, *State) {
	components := os.Getenv(componentsEnv)
	if components == "" {
		t.Skipf("%s does not name a directory with etcd and kubernetes", componentsEnv)
	}
	components, err := filepath.Abs(components)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := ownAddress()
	if err != nil {
		t.Skip(err)
	}
	root := t.TempDir()
	m := &machine{t: t, components: components, root: root, ctx: ctx, node: "cp-1"}
	pause, err := os.ReadFile(filepath.Join(components, "etcd")) // any ELF program will do here
	if err != nil {
		t.Fatal(err)
	}
	archive, err := baseimage.Build(pause[:4096], "amd64")
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(root, baseimage.ArchivePath)
	if err := os.MkdirAll(filepath.Dir(image), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(image, archive, 0o644); err != nil {
		t.Fatal(err)
	}
	n := &node.Node{APIVersion: node.APIVersion, Kind: node.Kind, Role: node.ControlPlane,
		Node:            node.Machine{Name: m.node, Address: addr.String()},
		BootstrapTokens: []node.BootstrapToken{{Token: "abcdef.0123456789abcdef"}}}
	node.SetDefaults(n)
	s := NewState(n, slog.New(slog.NewTextHandler(t.Output(), nil)), func(name string) { t.Logf("mark %s", name) })
	s.Root, s.StartUnit, s.RestartUnit = root, m.startUnit, m.startUnit
	s.Containerd = containerdtest.Start(t)
	s.Host = func(context.Context, string, *node.Node) (kubeadm.Host, error) {
		return kubeadm.Host{Hostname: m.node, Address: addr, KubernetesVersion: "v1.36.3"}, nil
	}
	s.inspect = untouched
	return m, s
}

// untouched takes the place of preflight, which would judge the machine the test runs on.
func untouched(context.Context, *State) error { return nil }

// ownAddress returns an address of this machine that is not loopback, which the API
// server refuses to advertise.
func ownAddress() (netip.Addr, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range addrs {
		if ip, ok := host.Global(a); ok && ip.Is4() {
			return ip, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("this machine has no address to serve an API on")
}

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
			bootTwice(t, ctx, s)
			compareUserObjects(t, ctx, s)
		})
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

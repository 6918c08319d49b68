// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/baseimage"
	"github.com/imgbuild/imgbuild/firstboot/cluster"
	"github.com/imgbuild/imgbuild/firstboot/containerd/containerdtest"
	"github.com/imgbuild/imgbuild/firstboot/host"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/status"
)

// componentsEnv names a directory that holds the programs etcd and kubernetes (the latter
// chosen by argv[0]) as assets/components builds them.
const componentsEnv = "IMGBUILD_TEST_COMPONENTS"

// TestMain lets one run of these tests at a time have the ports of a control plane.
func TestMain(m *testing.M) {
	if os.Getenv(componentsEnv) != "" && os.Getenv(processEnv) == "" {
		f, err := os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("imgbuild-components-%d.lock", os.Getuid())), os.O_CREATE|os.O_RDWR, 0o600)
		if err == nil {
			err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

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
	mu         sync.Mutex
	// logout ends what goes by the kubelet.conf that was read last.
	logout context.CancelFunc
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

// restartUnit makes the kubelet read kubelet.conf again; static pods do not notice.
func (m *machine) restartUnit(ctx context.Context, unit string) error {
	if err := m.startUnit(ctx, unit); err != nil {
		return err
	}
	m.login()
	return nil
}

// login registers the node with what kubelet.conf says now.
func (m *machine) login() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.logout != nil {
		m.logout()
	}
	var ctx context.Context
	ctx, m.logout = context.WithCancel(m.ctx)
	m.wg.Go(func() { m.register(ctx) })
}

// fail reports what went wrong, unless the machine was switched off meanwhile.
func (m *machine) fail(err error) {
	if m.ctx.Err() == nil {
		m.t.Error(err)
	}
}

// has says that a file exists.
func (m *machine) has(path string) bool {
	_, err := os.Lstat(filepath.Join(m.root, path))
	return err == nil
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
	if m.has(kubeadm.BootstrapConf) && !m.has(kubeadm.Dir+"/"+kubeconfig.Kubelet) {
		m.bootstrap()
	}
	m.login()
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
	log, err := os.OpenFile(filepath.Join(m.t.ArtifactDir(), m.node+"-"+pod.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
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
		}
		if ip, ok := strings.CutPrefix(a, "--advertise-address="); ok {
			// Other machines serve at other addresses of this host.
			out = append(out, "--bind-address="+ip)
			if m.advertise != "" {
				a = "--advertise-address=" + m.advertise
			}
		}
		out[i] = a
	}
	return out
}

// register creates the node as a kubelet would and reports it Ready once the CNI
// configuration exists.
func (m *machine) register(ctx context.Context) {
	conf, err := os.ReadFile(filepath.Join(m.root, "/etc/kubernetes/kubelet.conf"))
	if err != nil {
		m.fail(err)
		return
	}
	// The link that kubelet.conf names leads to an absolute path, as the kubelet makes it.
	target, err := os.Readlink(filepath.Join(m.root, kubeadm.KubeletPEM))
	if err != nil {
		m.fail(err)
		return
	}
	moved := filepath.Join(m.t.TempDir(), "kubelet.conf")
	conf = bytes.ReplaceAll(conf, []byte(m.root+kubeadm.KubeletPEM), []byte(kubeadm.KubeletPEM))
	conf = bytes.ReplaceAll(conf, []byte(kubeadm.KubeletPEM), []byte(m.root+target))
	if err := os.WriteFile(moved, conf, 0o600); err != nil {
		m.fail(err)
		return
	}
	c, err := cluster.FromFile(moved, "")
	if err != nil {
		m.fail(err)
		return
	}
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.node, Labels: map[string]string{"kubernetes.io/hostname": m.node}}}
	n.Status.Conditions, n.Status.NodeInfo.BootID = m.ready(), status.BootID()
	if err := c.Apply(ctx, n, true); err != nil {
		if ctx.Err() == nil {
			m.fail(err)
		}
		return
	}
	m.wg.Go(func() { m.heartbeat(ctx, moved) })
	// flannel's file appears once its pod runs.
	dir := filepath.Join(m.root, "/run/flannel")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		m.fail(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "subnet.env")); err == nil {
		return
	}
	subnet := "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.0.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
	if err := os.WriteFile(filepath.Join(dir, "subnet.env"), []byte(subnet), 0o644); err != nil {
		m.fail(err)
	}
}

// heartbeat reports the node Ready again and again, as its controller expects.
func (m *machine) heartbeat(ctx context.Context, conf string) {
	cfg, err := clientcmd.BuildConfigFromFlags("", conf)
	if err != nil {
		m.fail(err)
		return
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		m.fail(err)
		return
	}
	for ctx.Err() == nil {
		conditions := m.ready()
		patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": conditions, "nodeInfo": map[string]any{"bootID": status.BootID()}}})
		if err != nil {
			m.fail(err)
			return
		}
		// A server that is not there at this moment will be for the next beat.
		_, _ = client.CoreV1().Nodes().PatchStatus(ctx, m.node, patch)
		select {
		case <-ctx.Done():
		case <-time.After(beat(conditions)):
		}
	}
}

// ready is the node's condition: a runtime without a network configuration is not ready.
func (m *machine) ready() []corev1.NodeCondition {
	c := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.Now()}
	if files, _ := filepath.Glob(filepath.Join(m.root, "/etc/cni/net.d/*.conflist")); len(files) == 0 {
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, "KubeletNotReady", "cni plugin not initialized"
	}
	return []corev1.NodeCondition{c}
}

// beat is how long a kubelet waits to report again: less while it is not ready.
func beat(c []corev1.NodeCondition) time.Duration {
	if c[0].Status != corev1.ConditionTrue {
		return 200 * time.Millisecond
	}
	return 5 * time.Second
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
	s.Root, s.StartUnit, s.RestartUnit = root, m.startUnit, m.restartUnit
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

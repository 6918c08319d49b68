// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/certificate/csr"
	"k8s.io/client-go/util/keyutil"

	"github.com/imgbuild/imgbuild/firstboot/check"
	"github.com/imgbuild/imgbuild/firstboot/containerd/containerdtest"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// fleet is several machines on one host: each has an address of its own on the loopback
// interface, at which its etcd, its API server and the rest of it listen. Fleets with different
// nets can be there at the same time.
type fleet struct {
	t        *testing.T
	net      byte
	document func(name string, address netip.Addr) *node.Node
	own      netip.Addr
	machines map[string]*member
}

// member is a machine that can be switched off, wiped and switched on.
type member struct {
	*machine
	fleet   *fleet
	address netip.Addr
	state   *State
	cancel  context.CancelFunc
	errs    error
	// Ended holds how the phases of the last run ended.
	ended map[string]phase.State
}

// nets numbers the fleets of a run.
var nets atomic.Int32

func newFleet(t *testing.T, document func(string, netip.Addr) *node.Node) *fleet {
	t.Parallel()
	if os.Getenv(componentsEnv) == "" {
		t.Skipf("%s does not name a directory with etcd and kubernetes", componentsEnv)
	}
	own, err := ownAddress()
	if err != nil {
		t.Skip(err)
	}
	f := &fleet{t: t, net: byte(nets.Add(1)) + 1, document: document, own: own, machines: map[string]*member{}}
	t.Cleanup(func() {
		for _, m := range f.machines {
			m.off()
		}
	})
	return f
}

// on switches a machine on, which keeps what its disk holds, and runs first boot on it.
func (f *fleet) on(name string, last byte) *member {
	m := f.machines[name]
	if m == nil {
		m = &member{fleet: f, address: netip.AddrFrom4([4]byte{127, f.net, 1, last})}
		f.machines[name] = m
		ctx := context.Background()
		m.machine, m.state = newMachine(f.t, ctx)
		m.machine.node, m.machine.loopback, m.machine.advertise = name, fmt.Sprintf("127.%d.2.%d", f.net, last), f.own.String()
	}
	var ctx context.Context
	ctx, m.cancel = context.WithCancel(context.Background())
	m.machine.ctx, m.machine.start = ctx, sync.Once{}
	n := f.document(name, m.address)
	s := NewState(n, slog.New(slog.NewTextHandler(f.t.Output(), nil)).With("machine", name), func(string) {})
	s.Root, s.StartUnit, s.RestartUnit = m.root, m.startUnit, m.restartUnit
	s.Containerd = containerdtest.Start(f.t)
	s.loopbackAddress = m.loopback
	s.Host = func(context.Context, string, *node.Node) (kubeadm.Host, error) {
		return kubeadm.Host{Hostname: name, Address: m.address, KubernetesVersion: "v1.36.3", ExternalCA: pki.External(m.root)}, nil
	}
	s.inspect = untouched
	m.state = s
	return m
}

// boot runs first boot until it is complete.
func (m *member) boot(ctx context.Context) {
	g, err := Graph(m.state.Node.Timeouts)
	if err != nil {
		m.fleet.t.Error(err)
		return
	}
	j, err := phase.OpenJournal(m.state.path(phase.JournalPath))
	if err != nil {
		m.fleet.t.Error(err)
		return
	}
	defer j.Close()
	rec := &recorder{t: m.fleet.t, ended: map[string]phase.State{}, name: m.node}
	m.errs = (&phase.Runner[*State]{Graph: g, Journal: j, Role: string(m.state.Node.Role), Document: "sha256:test", Observer: rec}).Run(ctx, m.state)
	m.ended = rec.ended
	if m.errs != nil {
		m.fleet.t.Errorf("%s: %v", m.node, m.errs)
	}
}

func (m *member) off() {
	if m.cancel != nil {
		m.cancel()
		m.wg.Wait()
		m.cancel = nil
	}
}

// wipe removes what a new disk lacks; the image and what Ignition delivers come again.
func (m *member) wipe() {
	for _, dir := range []string{"/etc/kubernetes", "/var/lib/etcd", "/var/lib/kubelet", "/var/lib/imgbuild", "/run"} {
		if err := os.RemoveAll(m.state.path(dir)); err != nil {
			m.fleet.t.Fatal(err)
		}
	}
}

// deliver writes files as Ignition does.
func (m *member) deliver(files ...kubeadm.File) {
	if _, err := kubeadm.WriteFiles(m.root, files...); err != nil {
		m.fleet.t.Fatal(err)
	}
}

// bootstrap gets a certificate the way a kubelet does and writes kubelet.conf. A kubelet that gets
// none ends and is started again: an API server that has just heard of a token may not know it
// for one yet, or not the rights that come with it.
func (m *machine) bootstrap() {
	for {
		err := m.bootstrapOnce()
		if err == nil || m.ctx.Err() != nil {
			return
		}
		m.t.Logf("%s: the kubelet ends and is started again: %v", m.node, err)
		time.Sleep(time.Second)
	}
}

func (m *machine) bootstrapOnce() error {
	cfg, err := clientcmd.BuildConfigFromFlags("", filepath.Join(m.root, kubeadm.BootstrapConf))
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	request, err := csrFor(m.node, key)
	if err != nil {
		return err
	}
	name, uid, err := csr.RequestCertificateWithContext(m.ctx, client, request, "", certificatesv1.KubeAPIServerClientKubeletSignerName, nil,
		[]certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}, key)
	if err != nil {
		return err
	}
	cert, err := csr.WaitForCertificate(m.ctx, client, name, uid)
	if err != nil {
		return err
	}
	pem, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return err
	}
	file := filepath.Join(filepath.Dir(kubeadm.KubeletPEM), "kubelet-client-1.pem")
	conf, err := kubeconfig.Encode(kubeconfig.Kubelet, kubeconfig.New("default-cluster", cfg.Host, "default-auth", cfg.CAData,
		clientAuth(m.root+file)))
	if err != nil {
		return err
	}
	if _, err := kubeadm.WriteFiles(m.root, kubeadm.File{Path: file, Mode: 0o600, Data: append(cert, pem...)}); err != nil {
		return err
	}
	if err := replaceLink(m.root+kubeadm.KubeletPEM, file); err != nil {
		return err
	}
	_, err = kubeadm.WriteFiles(m.root, conf)
	return err
}

func csrFor(nodeName string, key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "system:node:" + nodeName, Organization: []string{kubeadm.NodesGroup}}}, key)
	if err != nil {
		return nil, err
	}
	return encodePEM("CERTIFICATE REQUEST", der), nil
}

// authorities are what pki.mode shared delivers.
func authorities(t *testing.T) []kubeadm.File {
	t.Helper()
	root := t.TempDir()
	n := &node.Node{Role: node.ControlPlane, Node: node.Machine{Name: "x", Address: "192.0.2.1"}}
	node.SetDefaults(n)
	c, err := kubeadm.New(n, kubeadm.Host{Hostname: "x", KubernetesVersion: "v1.36.3"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pki.Ensure(t.Context(), root, c, &pki.Maker{Algorithm: n.PKI.Algorithm, CAValidity: time.Hour * 24, Validity: time.Hour, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	var out []kubeadm.File
	for _, name := range []string{"ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "etcd/ca.crt", "etcd/ca.key", "sa.key", "sa.pub"} {
		data, err := os.ReadFile(filepath.Join(root, kubeadm.PKIDir, name))
		if err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o600)
		if strings.HasSuffix(name, ".crt") {
			mode = 0o644
		}
		out = append(out, kubeadm.File{Path: kubeadm.PKIDir + "/" + name, Mode: mode, Data: data})
	}
	return out
}

func documentOf(role node.Role, mode node.PKIMode, controlPlanes ...string) func(string, netip.Addr) *node.Node {
	return func(name string, address netip.Addr) *node.Node {
		net := address.As4()[1]
		at := func(third, last int) string { return fmt.Sprintf("127.%d.%d.%d", net, third, last) }
		n := &node.Node{APIVersion: node.APIVersion, Kind: node.Kind, Role: role,
			Node:            node.Machine{Name: name, Address: address.String()},
			Cluster:         node.Cluster{Endpoint: at(1, 2) + ":6443"},
			PKI:             node.PKI{Mode: mode, CertificateKey: node.Secret(strings.Repeat("0123456789abcdef", 4))},
			BootstrapTokens: []node.BootstrapToken{{Token: "abcdef.0123456789abcdef"}},
			Etcd:            node.Etcd{HeartbeatInterval: node.Duration(500 * time.Millisecond), ElectionTimeout: node.Duration(5 * time.Second)},
		}
		if strings.HasPrefix(name, "w-") {
			n.Role = node.Worker
		}
		for i, cp := range controlPlanes {
			n.Cluster.ControlPlanes = append(n.Cluster.ControlPlanes, node.Peer{Name: cp, Address: at(1, i+1)})
		}
		if mode == node.PKIGenerate {
			n.PKI.Initiator = controlPlanes[0]
		}
		n.Etcd.ServerCertSANs = []string{at(2, 1), at(2, 2), at(2, 3)}
		node.SetDefaults(n)
		t := &n.Timeouts
		for _, d := range []*node.Duration{&t.ControlPlaneComponentHealthCheck, &t.KubeletHealthCheck, &t.KubernetesAPICall, &t.EtcdAPICall, &t.Discovery, &t.TLSBootstrap, &t.NodeReady} {
			*d = node.Duration(8 * time.Minute)
		}
		return n
	}
}

// TestControlPlanesInParallel: a worker and two of three control planes are switched on together
// and are a cluster; the first of the list comes late, and is one of the first members all the
// same. Then one loses its disk and comes back as a new member.
func TestControlPlanesInParallel(t *testing.T) {
	f := newFleet(t, documentOf(node.ControlPlane, node.PKIShared, "cp-1", "cp-2", "cp-3"))
	ca := authorities(t)
	cert, err := pki.ParseCert(ca[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"cp-1", "cp-2", "cp-3", "w-1"}
	boot := func(names ...string) {
		var wg sync.WaitGroup
		for _, name := range names {
			m := f.on(name, name[len(name)-1]-'0'+map[bool]byte{true: 8}[name[0] == 'w'])
			if m.state.Node.Role == node.ControlPlane {
				m.deliver(ca...)
			} else {
				m.state.Node.Join.CACertHashes = []string{pki.Pin(cert)}
			}
			wg.Go(func() { m.boot(t.Context()) })
		}
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}
	boot("w-1", "cp-3", "cp-2")
	boot("cp-1")
	if m, err := LoadMembership(f.machines["cp-1"].root); err != nil || m.Joined {
		t.Errorf("the late founder's membership: %+v %v", m, err)
	}
	for _, name := range names[:3] {
		f.asKubeadmWould(t, f.machines[name], true)
	}
	w := f.machines["w-1"]
	if _, err := os.Stat(w.state.path(kubeadm.BootstrapConf)); err == nil {
		t.Error("the worker kept its token")
	}
	config, err := os.ReadFile(w.state.path(kubeadm.KubeletDir + "/config.yaml"))
	if err != nil || !bytes.Contains(config, []byte("clusterDNS:\n- 10.96.0.10")) {
		t.Errorf("the worker's kubelet: %s %v", config, err)
	}
	f.objectsAreThere(t, f.machines["cp-2"], names...)
	f.refusesAnOldDocument(t, ca)

	lost := f.machines["cp-3"]
	lost.off()
	lost.wipe()
	lost = f.on("cp-3", 3)
	lost.deliver(ca...)
	lost.boot(t.Context())
	if t.Failed() {
		return
	}
	if m, err := LoadMembership(lost.root); err != nil || !m.Joined || m.ID == 0 {
		t.Errorf("membership %+v %v", m, err)
	}
	f.asKubeadmWould(t, lost, false)
	f.etcdMembers(t, "cp-1", "cp-2", "cp-3")
	lost.refusesATakenName(t, "w-1")
	runReferee(t, f.machines["cp-1"])

	// A second run changes nothing.
	lost.boot(t.Context())
	for _, name := range []string{Certs, Kubeconfig, KubeletStart, Etcd, ControlPlane} {
		if lost.ended[name] != phase.Checked {
			t.Errorf("second run: phase %s ended %s, not checked", name, lost.ended[name])
		}
	}
}

// TestAuthoritiesStayAtHome: with pki.mode generate one control plane makes the authorities
// and the others fetch them encrypted, although all are switched on together. When the one
// that made them loses its disk it joins the others, and makes no second cluster.
func TestAuthoritiesStayAtHome(t *testing.T) {
	names := []string{"cp-1", "cp-2", "cp-3"}
	f := newFleet(t, documentOf(node.ControlPlane, node.PKIGenerate, names...))
	var wg sync.WaitGroup
	for i, name := range names {
		m := f.on(name, byte(i+1))
		wg.Go(func() { m.boot(t.Context()) })
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	f.asKubeadmWould(t, f.machines["cp-1"], true)
	f.asKubeadmWould(t, f.machines["cp-2"], false)
	f.etcdMembers(t, names...)
	f.objectsAreThere(t, f.machines["cp-2"], names...)
	runReferee(t, f.machines["cp-2"])

	first := f.machines["cp-1"]
	ca, err := os.ReadFile(first.state.path(kubeadm.PKIDir + "/ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	first.off()
	first.wipe()
	first = f.on("cp-1", 1)
	first.boot(t.Context())
	if t.Failed() {
		return
	}
	if again, err := os.ReadFile(first.state.path(kubeadm.PKIDir + "/ca.crt")); err != nil || !bytes.Equal(again, ca) {
		t.Errorf("the initiator has another authority than before: %v", err)
	}
	f.asKubeadmWould(t, first, false)
	f.etcdMembers(t, names...)

	// A reset takes the member out, leaves what was delivered, and the machine can join again.
	third := f.machines["cp-3"]
	if left, err := Leave(t.Context(), third.state); err != nil || !strings.Contains(left.Did, "removed") {
		t.Error(left, err)
	}
	f.etcdMembers(t, "cp-1", "cp-2")
	third.off()
	mountList(t, third.root)
	if err := Forget(third.state); err != nil {
		t.Fatal(err)
	}
	if left := snapshot(t, third.root); len(left) > 0 {
		t.Errorf("after a reset there is %v", slices.Sorted(maps.Keys(left)))
	}
	f.on("cp-3", 3).boot(t.Context())
	f.etcdMembers(t, names...)
}

// asKubeadmWould runs the product's checks on a machine.
func (f *fleet) asKubeadmWould(t *testing.T, m *member, first bool) {
	t.Helper()
	c, err := m.state.client()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range check.Run(t.Context(), &check.Env{Root: m.root, Config: m.state.Config, First: first, API: c}) {
		if r.Status == check.Fail {
			t.Errorf("%s: check %s %s: %v", m.node, r.ID, r.Title, r.Problems)
		}
	}
}

func (f *fleet) objectsAreThere(t *testing.T, m *member, nodes ...string) {
	t.Helper()
	c, err := m.state.client()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range nodes {
		n, err := c.Node(t.Context(), name)
		if err != nil {
			t.Error(err)
			continue
		}
		_, labelled := n.Labels[kubeadm.ControlPlaneLabel]
		tainted := slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == kubeadm.ControlPlaneTaint })
		if want := strings.HasPrefix(name, "cp-"); labelled != want || tainted != want {
			t.Errorf("%s: labels %v, taints %v", name, slices.Sorted(maps.Keys(n.Labels)), n.Spec.Taints)
		}
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-public", Name: "cluster-info"}}
	if err := c.Get(t.Context(), cm); err != nil || !strings.Contains(cm.Data["kubeconfig"], m.state.Config.EndpointURL()) {
		t.Errorf("cluster-info: %v %v", cm.Data, err)
	}
}

func (f *fleet) etcdMembers(t *testing.T, want ...string) {
	t.Helper()
	s := f.machines[want[0]].state
	c, err := s.dialEtcd(t.Context(), s.self())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	members, err := c.Members(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range members {
		if m.Learner {
			t.Errorf("%s is a learner", m.Name)
		}
		got = append(got, m.Name)
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("etcd's members are %v, want %v", got, want)
	}
}

// runReferee asks stock kubeadm what it thinks of a machine's files.
func runReferee(t *testing.T, m *member) {
	dumpForReferee(t, t.Context(), m.state)
}

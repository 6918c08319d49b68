// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// deliverExternal gives a machine what an external authority signed for it: certificates with
// their keys, kubeconfigs and the kubelet's certificate, and no authority's key.
func (m *member) deliverExternal(t *testing.T, ca []kubeadm.File) {
	t.Helper()
	n := m.fleet.document(m.node, m.address)
	n.PKI.Mode = node.PKIShared
	c, err := kubeadm.New(n, kubeadm.Host{Hostname: m.node, Address: m.address, KubernetesVersion: "v1.36.3"})
	if err != nil {
		t.Fatal(err)
	}
	s := &State{Root: t.TempDir(), Node: n, Config: c, Start: time.Now(), Log: slog.New(slog.DiscardHandler)}
	if _, err := kubeadm.WriteFiles(s.Root, ca...); err != nil {
		t.Fatal(err)
	}
	if c.Role == node.ControlPlane {
		err = errors.Join(certs(t.Context(), s), kubeconfigs(t.Context(), s))
	} else {
		err = m.deliverToWorker(s)
	}
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(s.Root, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, s.Root)
		if err != nil || d.IsDir() || strings.HasSuffix(name, "ca.key") {
			return err
		}
		if d.Type() == fs.ModeSymlink {
			target, err := os.Readlink(path)
			return errors.Join(err, replaceLink(m.root+name, target))
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		m.deliver(kubeadm.File{Path: name, Mode: info.Mode().Perm(), Data: data})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// deliverToWorker makes the kubelet's files, with the paths of a machine below a root.
func (m *member) deliverToWorker(s *State) error {
	ca, err := s.authority()
	if err != nil {
		return err
	}
	if err := s.kubeletCredentials(ca); err != nil {
		return err
	}
	target, err := os.Readlink(s.path(kubeadm.KubeletPEM))
	if err != nil {
		return err
	}
	conf, err := kubeconfig.Encode(kubeconfig.Kubelet, kubeconfig.New("kubernetes", s.Config.EndpointURL(), "system:node:"+m.node, ca.CertPEM(), clientAuth(m.root+target)))
	if err != nil {
		return err
	}
	if _, err := kubeadm.WriteFiles(s.Root, conf); err != nil {
		return err
	}
	for _, f := range []string{"front-proxy-ca.crt", "etcd/ca.crt", "sa.key", "sa.pub"} { // not a worker's
		if err := os.Remove(s.path(kubeadm.PKIDir + "/" + f)); err != nil {
			return err
		}
	}
	return nil
}

// TestExternalAuthority: no machine has an authority's key. Two control planes and a worker
// start from what was signed for them, without a token.
func TestExternalAuthority(t *testing.T) {
	f := newFleet(t, func(name string, address netip.Addr) *node.Node {
		n := documentOf(node.ControlPlane, node.PKIExternal, "cp-1", "cp-2")(name, address)
		n.BootstrapTokens = nil
		return n
	})
	ca := authorities(t)
	names := []string{"cp-1", "cp-2", "w-1"}
	var wg sync.WaitGroup
	for i, name := range names {
		m := f.on(name, byte(i+1))
		m.deliverExternal(t, ca)
		wg.Go(func() { m.boot(t.Context()) })
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for _, name := range names[:2] {
		f.asKubeadmWould(t, f.machines[name], true)
	}
	f.etcdMembers(t, names[:2]...)
	w := f.machines["w-1"].state
	if w.absent(kubeadm.KubeletDir+"/config.yaml") || !w.absent(kubeadm.BootstrapConf) {
		t.Error("the worker's kubelet is not configured, or has a token to ask with")
	}
	for _, m := range f.machines {
		keys, err := filepath.Glob(m.root + kubeadm.PKIDir + "/*ca.key")
		more, merr := filepath.Glob(m.root + kubeadm.PKIDir + "/etcd/ca.key")
		if keys = append(keys, more...); err != nil || merr != nil || len(keys) > 0 {
			t.Errorf("%s has %v", m.node, keys)
		}
	}
}

// A worker whose certificate was not delivered says so at once.
func TestExternalWorkerWithoutCertificate(t *testing.T) {
	edit := func(n *node.Node) {
		n.Role, n.PKI.Mode, n.BootstrapTokens = node.Worker, node.PKIExternal, nil
	}
	n := kubeadmtest.Document()
	edit(n)
	s := &State{Root: t.TempDir(), Node: n, Config: kubeadmtest.Config(t, edit), Poll: time.Millisecond}
	err := discover(t.Context(), s)
	if !errors.Is(err, phase.ErrPermanent) || !strings.Contains(err.Error(), "deliver /etc/kubernetes/pki/ca.crt, /etc/kubernetes/kubelet.conf") {
		t.Error(err)
	}
}

// A second run of a worker that was given its certificate looks for nothing and writes nothing.
func TestExternalWorkerAgain(t *testing.T) {
	edit := func(n *node.Node) { n.Role, n.PKI.Mode, n.BootstrapTokens = node.Worker, node.PKIExternal, nil }
	n := kubeadmtest.Document()
	edit(n)
	s := &State{Root: t.TempDir(), Node: n, Config: kubeadmtest.Config(t, edit), Start: time.Now(), Log: slog.New(slog.DiscardHandler)}
	all := authorities(t)
	i := slices.IndexFunc(all, func(f kubeadm.File) bool { return strings.HasSuffix(f.Path, "pki/ca.key") })
	if _, err := kubeadm.WriteFiles(s.Root, all[0], all[i], kubeadm.File{Path: kubeadm.KubeletDir + "/config.yaml", Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	pair, err := s.authority()
	if err == nil {
		err = s.kubeletCredentials(pair)
	}
	if err != nil {
		t.Fatal(err)
	}
	if cert, err := pki.ParseCert(all[0].Data); err != nil || !cert.Equal(pair.Cert) {
		t.Fatal(err)
	}
	if err := discover(t.Context(), s); err != nil {
		t.Error(err)
	}
	if files, err := s.joinFiles(t.Context()); err != nil || len(files) > 0 {
		t.Errorf("%v %v", files, err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// joinConfiguration is what a stock machine is given: our address, token, hash, and for a control
// plane the key.
const joinConfiguration = `apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
nodeRegistration: {name: %s, criSocket: "unix:///run/containerd/containerd.sock"}
discovery: {bootstrapToken: {apiServerEndpoint: "%s", token: abcdef.0123456789abcdef, caCertHashes: ["%s"]}}
`

// initConfiguration goes before the cluster's own configuration.
const initConfiguration = `apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
nodeRegistration: {name: %s, criSocket: "unix:///run/containerd/containerd.sock"}
localAPIEndpoint: {advertiseAddress: %s}
---
`

// TestKubeadmJoinsARealControlPlane lets the real kubeadm do what it does on a machine that joins,
// as far as it takes no kubelet: it finds the cluster, reads its configuration, and as a control
// plane gets the authorities and makes everything that follows from them.
func TestKubeadmJoinsARealControlPlane(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	first, s := newMachine(t, ctx)
	defer func() { cancel(); first.wg.Wait() }()
	program := filepath.Join(first.components, "kubeadm")
	if _, err := os.Stat(program); err != nil {
		t.Skipf("%s does not hold kubeadm", first.components)
	}
	const key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	s.Node.PKI.CertificateKey = key
	s.Node.Etcd.HeartbeatInterval, s.Node.Etcd.ElectionTimeout = node.Duration(500*time.Millisecond), node.Duration(5*time.Second)
	second := &machine{t: t, root: t.TempDir(), ctx: ctx, node: "stock-cp"}
	worker := &machine{t: t, root: t.TempDir(), ctx: ctx, node: "stock-w"}
	for _, m := range []*machine{second, worker} {
		m.enclosed(program)
	}
	if _, err := runOnce(t, ctx, s); err != nil {
		t.Fatal(err)
	}
	ca, err := s.authority()
	if err != nil {
		t.Fatal(err)
	}
	for m, more := range map[*machine]string{worker: "", second: fmt.Sprintf("controlPlane: {certificateKey: \"%s\", localAPIEndpoint: {advertiseAddress: %s}}\n", key, s.Config.Address)} {
		config := fmt.Sprintf(joinConfiguration, m.node, s.Config.LocalEndpoint(), pki.Pin(ca.Cert)) + more
		if err := os.WriteFile(filepath.Join(m.root, "join.yaml"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	worker.kubeadm("join", "phase", "kubelet-start", "--config", "/join.yaml")
	for _, f := range []string{kubeadm.KubeletDir + "/config.yaml", kubeadm.BootstrapConf, kubeadm.PKIDir + "/ca.crt"} {
		if !worker.has(f) {
			t.Errorf("the worker lacks %s", f)
		}
	}
	second.kubeadm("join", "phase", "control-plane-prepare", "all", "--config", "/join.yaml")
	for _, f := range addons.SharedFiles {
		ours, err := os.ReadFile(s.path(filepath.Join(kubeadm.PKIDir, f)))
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := os.ReadFile(filepath.Join(second.root, kubeadm.PKIDir, f))
		if err != nil || !bytes.Equal(ours, theirs) {
			t.Errorf("%s is not what the first control plane has: %v", f, err)
		}
	}
	for component, want := range map[string]string{
		kubeadm.APIServer: "--service-cluster-ip-range=" + s.Config.ServiceSubnet.String(), kubeadm.ControllerManager: "--cluster-cidr=" + s.Config.PodSubnet.String(), kubeadm.Scheduler: "--leader-elect=true"} {
		text, err := os.ReadFile(filepath.Join(second.root, kubeadm.ManifestsDir, component+".yaml"))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s lacks %s: %v", component, want, err)
		}
	}
	// Its etcd has to run with the intervals of ours; joining one takes a kubelet, making one does not.
	c, err := s.client()
	if err != nil {
		t.Fatal(err)
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "kubeadm-config"}}
	if err := c.Get(ctx, cm); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(initConfiguration, second.node, s.Config.Address) + cm.Data["ClusterConfiguration"]
	if err := os.WriteFile(filepath.Join(second.root, "init.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	second.kubeadm("init", "phase", "etcd", "local", "--config", "/init.yaml")
	text, err := os.ReadFile(filepath.Join(second.root, kubeadm.ManifestsDir, "etcd.yaml"))
	if err != nil || !strings.Contains(string(text), "--heartbeat-interval=500\n") || !strings.Contains(string(text), "--election-timeout=5000\n") {
		t.Errorf("etcd.yaml lacks the intervals of the cluster: %v\n%s", err, text)
	}
}

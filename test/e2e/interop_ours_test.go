// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/ignition/v2/config/v3_5/types"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/builder/cluster"
	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/test/emulated"
	"github.com/imgbuild/imgbuild/test/stock"
)

// forStock are settings of a cluster that stock machines are to join: images for their part of
// the add-ons, and where its own nodes find what kubeadm runs on them.
const forStock = `
delivery:
  foreignImages: {kube-proxy: "registry.k8s.io/kube-proxy:` + stock.KubernetesVersion + `", flannel: "` + stock.Flannel + `"}
registries:
  - {host: registry.k8s.io, mirrors: [{url: "http://192.168.100.1:5000"}], fallback: false}
roles:
  controlPlane: {butane: [test.bu]}
`

// TestStockJoins makes a cluster of one control plane with imgbuild cluster, runs kubeadm's own
// commands on it, and lets stock machines join it as a worker and as a control plane.
func TestStockJoins(t *testing.T) {
	e := needLong(t)
	dir := t.TempDir()
	ix, pkiDir := e.renderForStock(t, dir)
	layout, err := vm.ClusterFleet(dir, ix, nil)
	if err != nil {
		t.Fatal(err)
	}
	ours := layout.Hosts[0]
	config := read(t, ours.Ignition)
	admin := filepath.Join(dir, "test.conf")
	if err := vm.WriteAdmin(admin, config, ix.Endpoint); err != nil {
		t.Fatal(err)
	}
	worker := stock.Machine{Name: "stock-w", Address: netip.MustParseAddr("192.168.100.41"), Images: []string{stock.ProxyImage, stock.PauseImage, stock.FlannelImage}}
	second := stock.Machine{Name: "stock-cp", Address: netip.MustParseAddr("192.168.100.42"), Images: []string{stock.AllImages, stock.FlannelImage}}
	o := e.fleetOptions(t, dir)
	o.Hosts, o.Network, o.Names, o.API, o.Kubeconfig = layout.Hosts, layout.Network, layout.Names, layout.API, admin
	for s, role := range map[*stock.Machine]node.Role{&worker: node.Worker, &second: node.ControlPlane} {
		g, err := s.Guest()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, s.Name+".ign")
		writeIgnition(t, path, g)
		o.Hosts = append(o.Hosts, stockHost(*s, path, role))
		o.Names[s.Name] = []netip.Addr{s.Address}
	}
	x := e.startMixed(t, o, pkiDir, worker, second)
	x.index = ix
	x.eventually("the control plane is Ready", 2*bootTimeout, func() error { return x.ready(1) })
	x.awaitAgents()
	t.Run("kubeadm", func(t *testing.T) { x.with(t).kubeadmRuns(ours.Name) })

	token, key := renderedSecrets(t, dir)
	join := stock.Join{Endpoint: ix.Endpoint, Token: token, CAHashes: []string{caHash(t, pkiDir)}}
	controlPlane := join
	controlPlane.ControlPlane, controlPlane.CertificateKey, controlPlane.Resumes = true, key, 5
	x.join(map[string]stock.Join{worker.Name: join})
	x.eventually("the stock worker is Ready", 2*bootTimeout, func() error { return x.ready(2) })
	t.Run("pods", func(t *testing.T) { x.with(t).podsReach(ours.Name, worker.Name, worker.Name) })
	// Until the second member of etcd has started there is no quorum, so everything else is over.
	x.join(map[string]stock.Join{second.Name: controlPlane})
	x.waitReady()
	t.Run("nodes", func(t *testing.T) { x.with(t).foreignNodes(ours.Name, worker.Name, second.Name) })
	t.Run("etcd", func(t *testing.T) { x.with(t).votes(ours.Name, second.Name) })
	t.Run("daemons", func(t *testing.T) { x.with(t).daemonsReady(3) })
	t.Run("api", func(t *testing.T) {
		if err := x.fleet.Ask(t.Context(), second.Address.String()+":6443", "/readyz"); err != nil {
			t.Errorf("the API server of the stock control plane: %v", err)
		}
	})
}

// renderForStock renders a cluster in mode generate, whose control plane uploads its authorities
// for others, and gives it authorities that the test knows too.
func (e env) renderForStock(t *testing.T, dir string) (ix *cluster.Index, pkiDir string) {
	t.Helper()
	text, err := e.output("cluster", "init", "--name", "demo", "--control-planes", "1", "--workers", "0")
	if err != nil {
		t.Fatal(err)
	}
	generate := strings.Replace(text, "mode: shared  ", "mode: generate", 1)
	if generate == text {
		t.Fatal("the starter does not say pki.mode: shared")
	}
	pkiDir = filepath.Join(dir, "test-pki")
	snippet, err := butane()
	file := filepath.Join(dir, "cluster.yaml")
	err = errors.Join(err, os.WriteFile(filepath.Join(dir, "test.bu"), snippet, 0o600),
		os.WriteFile(file, []byte(generate+"\n"+emulated.Cluster+forStock), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.output("cluster", "render", file, "-o", dir); err != nil {
		t.Fatal(err)
	}
	if ix, err = cluster.ReadIndex(dir); err != nil {
		t.Fatal(err)
	}
	addFiles(t, filepath.Join(dir, ix.Hosts[0].Ignition), authorities(t, pkiDir))
	return ix, pkiDir
}

// addFiles puts files into a rendered config that cluster.yaml may not name.
func addFiles(t *testing.T, path string, files []vm.GuestFile) {
	t.Helper()
	text := read(t, path)
	more, err := vm.Guest{Files: files}.Ignition()
	if err != nil {
		t.Fatal(err)
	}
	var config, other types.Config
	if err := errors.Join(json.Unmarshal(text, &config), json.Unmarshal(more, &other)); err != nil {
		t.Fatal(err)
	}
	config.Storage.Files = append(config.Storage.Files, other.Storage.Files...)
	if text, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	write(t, path, text)
}

// butane is a snippet with the mounts of both disks.
func butane() ([]byte, error) {
	type object = map[string]any
	unit := func(name, contents string) object { return object{"name": name, "enabled": true, "contents": contents} }
	return yaml.Marshal(object{"variant": "fcos", "version": "1.6.0", "systemd": object{"units": []object{
		unit("run-stock.mount", strings.Replace(probeMount, probeDir, stockDir, 1)),
		unit("var-lib-imgbuildtest.mount", strings.Replace(probeMount, "imgbuild1", "imgbuild2", 1))}}})
}

// stockDir is where the stock media are mounted, on stock machines too.
const stockDir = "/run/stock"

// renderedSecrets are what machines that join need to know.
func renderedSecrets(t *testing.T, dir string) (token, key string) {
	t.Helper()
	text := read(t, filepath.Join(dir, cluster.SecretsFile))
	var s struct{ BootstrapToken, CertificateKey string }
	if err := yaml.Unmarshal(text, &s); err != nil || s.BootstrapToken == "" || s.CertificateKey == "" {
		t.Fatal("the rendered secrets cannot be read")
	}
	return s.BootstrapToken, s.CertificateKey
}

// probingOn is the probe's pod on one node.
func probingOn(name string) *core.Pod {
	pod := probing()
	pod.Spec.NodeName = name
	return pod
}

// kubeadm runs the real kubeadm on the node of the probe's pod.
func (x *mixed) kubeadm(args ...string) string {
	x.Helper()
	out, err := x.try("", append([]string{"exec", probePod, "--", "/test/probe", "exec", stockDir + "/bin/kubeadm"}, args...)...)
	if err != nil {
		x.Errorf("kubeadm %s: %v", strings.Join(args, " "), err)
	}
	x.Logf("kubeadm %s:\n%s", strings.Join(args, " "), out)
	return out
}

// kubeadmRuns lets kubeadm look at a node that it has not made.
func (x *mixed) kubeadmRuns(name string) {
	x.apply(probingOn(name))
	x.eventually("the probe runs", 5*time.Minute, func() error {
		_, err := x.try("", "wait", "--for=condition=Ready", "pod/"+probePod, "--timeout=20s")
		return err
	})
	out := x.kubeadm("certs", "check-expiration")
	for _, want := range []string{"admin.conf", "apiserver ", "apiserver-etcd-client", "controller-manager.conf", "etcd-peer", "front-proxy-client", "scheduler.conf", "super-admin.conf", "front-proxy-ca"} {
		i := strings.Index(out, want)
		if i < 0 {
			x.Errorf("nothing is said about %s", want)
			continue
		}
		if line, _, _ := strings.Cut(out[i:], "\n"); strings.Contains(line, "MISSING") || strings.Contains(line, "invalid") {
			x.Errorf("kubeadm says: %s", line)
		}
	}
	token, _, _ := strings.Cut(x.tokenID(), ".")
	if out := x.kubeadm("token", "list"); !strings.Contains(out, token) || !strings.Contains(out, "authentication,signing") {
		x.Errorf("the cluster's token is not listed")
	}
	// A later version than there is makes kubeadm compare every component's; with one given it
	// does not ask the Internet.
	var plan struct {
		AvailableUpgrades []struct {
			Components []struct{ Name, CurrentVersion, NodeName string }
		}
	}
	out = x.kubeadm("upgrade", "plan", "v1.36.99", "-o", "json")
	if i := strings.Index(out, "{"); i < 0 || json.Unmarshal([]byte(out[i:]), &plan) != nil || len(plan.AvailableUpgrades) != 1 {
		x.Fatal("the plan does not list one upgrade")
	}
	versions := map[string]string{}
	for _, c := range plan.AvailableUpgrades[0].Components {
		versions[c.Name] = c.CurrentVersion
	}
	for component, want := range map[string]string{kubeadm.APIServer: stock.KubernetesVersion, kubeadm.ControllerManager: stock.KubernetesVersion,
		kubeadm.Scheduler: stock.KubernetesVersion, "kubelet": stock.KubernetesVersion, "CoreDNS": kubeadm.CoreDNSImageTag} {
		if versions[component] != want {
			x.Errorf("kubeadm takes %s of %s for version %q, it is %s", component, name, versions[component], want)
		}
	}
}

func (x *mixed) tokenID() string {
	token, _ := renderedSecrets(x.T, filepath.Dir(x.kubeconfig))
	return token
}

// foreignNodes expects nodes in their roles, and the label of ours on ours only.
func (x *mixed) foreignNodes(ours, worker, controlPlane string) {
	var list core.NodeList
	if err := x.get(&list, "nodes"); err != nil {
		x.Fatal(err)
	}
	var seen []string
	for _, n := range list.Items {
		_, labelled := n.Labels[kubeadm.ControlPlaneLabel]
		delivery := n.Labels[kubeadm.DeliveryLabel]
		if labelled != (n.Name != worker) || (delivery != "") != (n.Name == ours) {
			x.Errorf("node %s: control plane %v, delivery %q", n.Name, labelled, delivery)
		}
		seen = append(seen, n.Name)
	}
	want := []string{ours, worker, controlPlane}
	slices.Sort(seen)
	slices.Sort(want)
	if fmt.Sprint(seen) != fmt.Sprint(want) {
		x.Errorf("nodes %v, want %v", seen, want)
	}
}

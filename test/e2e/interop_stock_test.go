// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/test/emulated"
	"github.com/imgbuild/imgbuild/test/stock"
)

// Secrets of the stock cluster, which lives as long as the test.
const (
	stockToken = "abcdef.0123456789abcdef"
	stockKey   = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
)

// The stock control plane, and the pods' ranges of the three machines, which route to each
// other: the cluster's pod network is that of the site.
const stockEndpoint = "10.53.0.11:6443"

var stockNetwork = []struct {
	name    string
	role    node.Role
	address netip.Addr
	pods    netip.Prefix
}{
	{"stock-cp", node.ControlPlane, netip.MustParseAddr("10.53.0.11"), netip.MustParsePrefix("10.244.11.0/24")},
	{"our-w", node.Worker, netip.MustParseAddr("10.53.0.12"), netip.MustParsePrefix("10.244.12.0/24")},
	{"our-cp", node.ControlPlane, netip.MustParseAddr("10.53.0.13"), netip.MustParsePrefix("10.244.13.0/24")},
}

// stockDocument is the node document of a machine that joins a cluster made by kubeadm.
const stockDocument = `apiVersion: ` + node.APIVersion + `
kind: ` + node.Kind + `
role: %s
cluster:
  endpoint: ` + stockEndpoint + `
%snode:
  name: %s
  address: %s
join:
  caCertHashes: ["%s"]
bootstrapTokens:
  - token: ` + stockToken + `
network:
  provider: none
` + emulated.Cluster

// stockControlPlanes is what a control plane has to know besides.
const stockControlPlanes = `  controlPlanes:
    - {name: stock-cp, address: 10.53.0.11}
    - {name: our-cp, address: 10.53.0.13}
pki:
  mode: generate
  initiator: stock-cp
  certificateKey: "` + stockKey + `"
`

func controlPlanesOf(role node.Role) string {
	if role == node.ControlPlane {
		return stockControlPlanes
	}
	return ""
}

// mirrorHosts makes containerd pull from the gateway.
const mirrorHosts = `[host."http://10.53.0.1:5000"]
  capabilities = ["pull", "resolve"]
`

// TestJoinStock lets a worker and a control plane of imgbuild join a cluster that stock kubeadm
// init has made.
func TestJoinStock(t *testing.T) {
	e := needLong(t)
	dir := t.TempDir()
	pkiDir := filepath.Join(dir, "test-pki")
	// The cluster's authority is ours, so that the test can ask the API; kubeadm makes the others,
	// with its own kind of key.
	ca := slices.DeleteFunc(authorities(t, pkiDir), func(f vm.GuestFile) bool {
		return filepath.Dir(f.Path) != kubeadm.PKIDir || !strings.HasPrefix(filepath.Base(f.Path), "ca.")
	})
	worker := os.Getenv("IMGBUILD_WORKER_IMAGE")
	if worker == "" {
		worker = filepath.Join(e.root, "out/worker-amd64.raw")
	}
	if _, err := os.Stat(worker); err != nil {
		t.Fatalf("%v; run make image PROFILE=worker first", err)
	}
	o := e.fleetOptions(t, dir)
	o.Network, o.API, o.Kubeconfig = netip.MustParsePrefix("10.53.0.1/24"), []string{stockEndpoint}, filepath.Join(dir, "test.conf")
	first := stock.Machine{Name: stockNetwork[0].name, Address: stockNetwork[0].address, PodRange: stockNetwork[0].pods, Network: route(0),
		Step: stock.Init{Endpoint: stockEndpoint, Token: stockToken, CertificateKey: stockKey}, Files: ca}
	g, err := first.Guest()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, first.Name+".ign")
	if err := vm.WriteAdmin(o.Kubeconfig, writeIgnition(t, path, g), stockEndpoint); err != nil {
		t.Fatal(err)
	}
	o.Hosts = []vm.FleetHost{stockHost(first, path, node.ControlPlane)}
	for i, m := range stockNetwork[1:] {
		config, err := stock.BridgeConfig(m.pods)
		if err != nil {
			t.Fatal(err)
		}
		image := worker
		if m.role == node.ControlPlane {
			image = ""
		}
		g := &vm.Guest{Files: []vm.GuestFile{vm.Hostname(m.name), route(i + 1).File(m.address),
			{Path: node.Path, Mode: 0o600, Data: fmt.Appendf(nil, stockDocument, m.role, controlPlanesOf(m.role), m.name, m.address, caHash(t, pkiDir))},
			{Path: "/etc/cni/net.d/10-bridge.conflist", Mode: 0o644, Data: config},
			{Path: "/etc/containerd/certs.d/registry.k8s.io/hosts.toml", Mode: 0o644, Data: []byte(mirrorHosts)}}}
		path := filepath.Join(dir, m.name+".ign")
		writeIgnition(t, path, g)
		o.Hosts = append(o.Hosts, vm.FleetHost{Name: m.name, Role: m.role, MAC: interopMAC(m.address), Address: m.address, Ignition: path, Image: image})
	}
	x := e.startMixed(t, o, pkiDir, first)
	x.waitReady()
	x.fetchEtcdCA(first.Name)
	t.Run("etcd", func(t *testing.T) { x.with(t).votes("stock-cp", "our-cp") })
	t.Run("daemons", func(t *testing.T) { x.with(t).daemonsReady(len(stockNetwork)) })
	t.Run("pods", func(t *testing.T) { x.with(t).podsReach("our-w", "stock-cp", "our-w") })
	t.Run("api", func(t *testing.T) {
		if err := x.fleet.Ask(t.Context(), "10.53.0.13:6443", "/readyz"); err != nil {
			t.Errorf("the API server of our control plane: %v", err)
		}
	})
}

// fetchEtcdCA takes etcd's authority from a stock control plane.
func (x *mixed) fetchEtcdCA(from string) {
	x.Helper()
	for _, file := range []string{"etcd/ca.crt", "etcd/ca.key"} {
		text, err := x.agents[from].Run(x.Context(), "cat "+kubeadm.PKIDir+"/"+file)
		if err == nil {
			err = os.WriteFile(filepath.Join(x.pki, file), []byte(text), 0o600)
		}
		if err != nil {
			x.Fatal(err)
		}
	}
}

// route is the static network of the i-th machine, with routes to the pods of the others.
func route(i int) *stock.Network {
	n := &stock.Network{Bits: 24, Gateway: netip.MustParseAddr("10.53.0.1"), Routes: map[netip.Prefix]netip.Addr{}}
	for j, m := range stockNetwork {
		if j != i {
			n.Routes[m.pods] = m.address
		}
	}
	return n
}

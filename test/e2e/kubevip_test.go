// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/imgbuild/imgbuild/builder/vm"
)

const kubeVIPRepository = "example/kube-vip"

// TestKubeVIP gives the virtual address to kube-vip itself, which every control plane pulls from
// a mirror: the address has one owner, and another when that one dies.
func TestKubeVIP(t *testing.T) {
	e := needLong(t)
	program, err := e.output("component", "kube-vip")
	if err != nil {
		t.Fatal(err)
	}
	image, digest := programImage(t, program)
	gateway := netip.MustParseAddr("192.168.100.1")
	config, ca := serverTLS(t, gateway)
	r := e.render(t, rendering{controlPlanes: 3,
		instead: []string{"  provider: keepalived ", "  provider: kube-vip\n  image: registry.example.org/" + kubeVIPRepository + "@" + digest + " ",
			"  advertInterval: 1s\n  healthTimeout: 30s\n", "  leaseDuration: 30s\n"},
		text: fmt.Sprintf("registries:\n  - {host: registry.example.org, fallback: false, mirrors: [{url: 'https://%s:%d', caFile: mirror-ca.pem}]}\n",
			gateway, servingPort),
		attached: map[string]string{"mirror-ca.pem": ca}})
	h := newHA(t, e.startCluster(t, r.dir, r.index, func(o *vm.FleetOptions) { o.Machine.MemoryMiB = pairMemoryMiB }), r.index)
	h.mirror(servingPort, config, serving(t, kubeVIPRepository, digest, image).ServeHTTP)
	h.waitReady()
	h.waitDone()
	h.allNodes()
	h.allPodsReady(append([]string{"kube-vip"}, components...)...)
	old := h.owner()
	old.Kill()
	t.Logf("with %s killed, the API answers after %s", old.Host.Name, h.answers())
	if h.owner() == old {
		t.Error("a machine that is off has the address")
	}
	if err := old.Start(); err != nil {
		t.Fatal(err)
	}
	if err := h.fleet.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.eventually("every node is Ready", bootTimeout, func() error { return h.ready(len(h.index.Hosts)) })
	h.owner()
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/builder/vm/ethernet"
)

// TestSegment boots one control plane on a segment: it gets its address by DHCP, its API is
// reached through the gateway, kubectl works with a kubeconfig that names the address on the
// segment, and a cut link is noticed and heals.
func TestSegment(t *testing.T) {
	e := needLong(t)
	dir := t.TempDir()
	guest, err := vm.SingleNode("cp-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	config, err := guest.Ignition()
	if err != nil {
		t.Fatal(err)
	}
	ignition, admin := filepath.Join(dir, "cp-1.ign"), filepath.Join(dir, "admin.conf")
	write(t, ignition, config)
	const address, api = "10.53.0.101", "10.53.0.101:6443"
	if err := vm.WriteAdmin(admin, config, api); err != nil {
		t.Fatal(err)
	}
	o := e.fleetOptions(t, dir)
	o.Network, o.API, o.Kubeconfig = netip.MustParsePrefix("10.53.0.1/24"), []string{api}, admin
	mac := ethernet.MAC{0x52, 0x54, 0, 0, 0, 0x65}
	o.Hosts = []vm.FleetHost{{Name: "cp-1", MAC: mac, Address: netip.MustParseAddr(address), DHCP: true, Ignition: ignition}}
	c := e.startFleet(t, o)
	var frames atomic.Int64
	c.fleet.Member("cp-1").Port.Tap(func(ethernet.Seen) { frames.Add(1) })
	c.waitReady()
	if got := c.kubectl("get", "nodes", "-o", "jsonpath={.items[*].status.addresses[?(@.type=='InternalIP')].address}"); got != address {
		t.Errorf("the node's address is %s, the lease was %s", got, address)
	}
	if frames.Load() == 0 || c.fleet.Switch.Where(mac) != c.fleet.Member("cp-1").Port {
		t.Errorf("%d frames seen, the machine is not behind its port", frames.Load())
	}
	port := c.fleet.Member("cp-1").Port
	port.Cut()
	if err := c.fleet.Ask(t.Context(), api, "/version"); err == nil {
		t.Error("the API answers over a link that is cut")
	}
	port.Restore()
	c.eventually("the API answers over the healed link", time.Minute, func() error { return c.fleet.Ask(t.Context(), api, "/livez") })
}

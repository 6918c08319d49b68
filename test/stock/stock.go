// SPDX-License-Identifier: Apache-2.0

// Package stock makes machines as people run them without imgbuild: Debian's userland,
// containerd, and kubeadm as upstream builds it, with the images of the control plane as
// archives on a disk. Tests let them share clusters with nodes of imgbuild, benchmarks measure
// them.
//
// They boot the very image that is tested or measured; the node document is left out, so
// firstboot does nothing. Two things make such a machine:
//
//   - Prepare builds Media, a read-only disk with kubeadm, ctr, the image archives and an agent.
//     Attach Media.Disk to the machine (vm.Spec.Disks, or FleetOptions.Machine.Disks for all
//     machines of a fleet) and say with Machine.DiskNumber which of the disks it is.
//   - Machine.Guest is what Ignition writes. A machine with a Step runs it at boot; afterwards,
//     or at once, it waits for commands: Agent.Run takes a shell script and Agent.Do a Step,
//     over any dialer that leads into the machine, such as the fleet's gateway.
//
// On a segment, then, for a control plane and a worker:
//
//	cp := stock.Machine{Name: "cp-1", Address: a1, Step: stock.Init{Token: token, ...}}
//	w := stock.Machine{Name: "w-1", Address: a2}
//	... vm.StartFleet with the Ignition config of cp.Guest() and w.Guest(), DHCP: true
//	agent := stock.Agent{Dial: fleet.Gateway.Dial, Address: a2}
//	err := agent.Await(ctx)                                  // booted, images imported
//	out, err := agent.Do(ctx, stock.Join{Endpoint: ..., Token: token, CAHashes: ...})
//
// Whoever reaches the agent is root on the machine: it is for segments that nobody else is on.
package stock

import (
	"embed"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/builder/vm"
)

//go:embed guest
var guestFiles embed.FS

// What the console says as a mark (vm.Mark) when the archives are imported and when a Step of
// the boot has succeeded. A Step of the boot that fails shows as vm.CannotStart.
const (
	ImagesMark = "images-imported"
	InitMark   = "kubeadm-init"
	JoinMark   = "kubeadm-join"
)

// Archives on the disk, as patterns for Machine.Images.
const (
	// AllImages are those that kubeadm asks for.
	AllImages = "images/*.tar"
	// ProxyImage, PauseImage, DNSImage are all that a worker runs.
	ProxyImage = "images/kube-proxy_*.tar"
	PauseImage = "images/pause_*.tar"
	DNSImage   = "images/coredns_*.tar"
	// FlannelImage holds flannel's daemon where upstream's image has it, and a shell.
	FlannelImage = "more/flannel_*.tar"
)

// WorkerImages are the archives that a worker needs, without a pod network.
var WorkerImages = []string{ProxyImage, PauseImage, DNSImage}

// Machine describes one machine.
type Machine struct {
	// Name is the host name and the node name.
	Name string
	// Address is the machine's where it is known in advance; kubeadm advertises it.
	Address netip.Addr
	// Network makes Address a static one; without it the machine asks by DHCP.
	Network *Network
	// Hosts are more names for /etc/hosts.
	Hosts map[string]netip.Addr
	// DiskNumber says which of the machine's read-only disks is Media's; 0 means 1, the first.
	DiskNumber int
	// Images are the archives to import, in this order; empty means AllImages.
	Images []string
	// PodRange attaches pods to a bridge of their own with addresses of this range. The zero
	// value leaves the pod network to the cluster.
	PodRange netip.Prefix
	// Step runs at boot when it is not nil.
	Step Step
	// Files are more files, such as the authority's of a cluster that is to have a known one
	// (vm.ClusterCA).
	Files []vm.GuestFile
}

// Network is a static configuration.
type Network struct {
	// Bits is the prefix length of Address.
	Bits int
	// Gateway is the router and the resolver.
	Gateway netip.Addr
	// Routes lead to ranges through neighbours.
	Routes map[netip.Prefix]netip.Addr
}

// dir is where the machine keeps its script and kubeadm's configuration, media where the disk
// is mounted; both are known to the files below guest.
const (
	dir   = "/etc/stock"
	media = "/run/stock"
)

// Guest returns what Ignition writes.
func (m Machine) Guest() (*vm.Guest, error) {
	hosts := "127.0.0.1 localhost\n"
	if m.Address.IsValid() {
		hosts += m.Address.String() + " " + m.Name + "\n"
	}
	for _, name := range slices.Sorted(maps.Keys(m.Hosts)) {
		hosts += m.Hosts[name].String() + " " + name + "\n"
	}
	images := m.Images
	if len(images) == 0 {
		images = []string{AllImages}
	}
	values := []string{"@PAUSE@", repository + "/pause:" + pauseTag, "@IMAGES@", media + "/" + strings.Join(images, " "+media+"/"),
		"@DISK@", fmt.Sprint(max(1, m.DiskNumber)), "@STEP@", ":", "@MARK@", "waiting"}
	g := &vm.Guest{Files: append(slices.Clone(m.Files), vm.Hostname(m.Name), vm.GuestFile{Path: "/etc/hosts", Mode: 0o644, Data: []byte(hosts)})}
	if m.Step != nil {
		config, err := m.Step.config(m.Name, m.Address)
		if err != nil {
			return nil, err
		}
		g.Files = append(g.Files, vm.GuestFile{Path: configPath, Mode: 0o600, Data: config})
		values[7], values[9] = m.Step.command(), m.Step.mark()
	}
	files := map[string]vm.GuestFile{
		"run.sh":       {Path: dir + "/run.sh", Mode: 0o755},
		"sandbox.toml": {Path: "/etc/containerd/conf.d/stock.toml", Mode: 0o644},
	}
	if m.PodRange.IsValid() {
		files["bridge.conflist"] = vm.GuestFile{Path: "/etc/cni/net.d/10-bridge.conflist", Mode: 0o644}
		values = append(values, "@PODS@", m.PodRange.String())
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text, err := fill(name, values)
		if err != nil {
			return nil, err
		}
		f := files[name]
		f.Data = []byte(text)
		g.Files = append(g.Files, f)
	}
	if m.Network != nil {
		g.Files = append(g.Files, m.Network.File(m.Address))
	}
	for _, name := range []string{"run-stock.mount", "stock.service"} {
		text, err := fill(name, values)
		if err != nil {
			return nil, err
		}
		g.Units = append(g.Units, vm.GuestUnit{Name: name, Contents: text})
	}
	return g, nil
}

// fill returns a file of guest with its placeholders replaced.
func fill(name string, values []string) (string, error) {
	data, err := guestFiles.ReadFile("guest/" + name)
	return strings.NewReplacer(values...).Replace(string(data)), err
}

// BridgeConfig is a CNI configuration that gives pods addresses of one range on a bridge, for
// machines in a network that routes these ranges.
func BridgeConfig(pods netip.Prefix) ([]byte, error) {
	text, err := fill("bridge.conflist", []string{"@PODS@", pods.String()})
	return []byte(text), err
}

// File gives a machine, also one that is not stock, the static address: systemd-networkd's
// configuration of every Ethernet interface, of which it has one.
func (n *Network) File(address netip.Addr) vm.GuestFile {
	var b strings.Builder
	fmt.Fprintf(&b, "[Match]\nType=ether\nKind=!*\n[Network]\nAddress=%s/%d\nGateway=%s\nDNS=%s\nIPv6AcceptRA=no\n", address, n.Bits, n.Gateway, n.Gateway)
	ranges := slices.SortedFunc(maps.Keys(n.Routes), netip.Prefix.Compare)
	for _, to := range ranges {
		fmt.Fprintf(&b, "[Route]\nDestination=%s\nGateway=%s\n", to, n.Routes[to])
	}
	return vm.GuestFile{Path: "/etc/systemd/network/10-uplink.network", Mode: 0o644, Data: []byte(b.String())}
}

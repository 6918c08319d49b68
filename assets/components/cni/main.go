// SPDX-License-Identifier: Apache-2.0

// Command cni is every CNI plugin in one file, chosen by the name it is called by. The
// plugins are programs upstream; the component's transforms turn each into a package with
// an exported Main before this program is built. Package podnet is our own.
package main

import (
	"fmt"
	"os"
	"path"

	"github.com/containernetworking/plugins/plugins/ipam/dhcp"
	hostlocal "github.com/containernetworking/plugins/plugins/ipam/host-local"
	"github.com/containernetworking/plugins/plugins/ipam/static"
	"github.com/containernetworking/plugins/plugins/main/bridge"
	"github.com/containernetworking/plugins/plugins/main/dummy"
	hostdevice "github.com/containernetworking/plugins/plugins/main/host-device"
	"github.com/containernetworking/plugins/plugins/main/ipvlan"
	"github.com/containernetworking/plugins/plugins/main/loopback"
	"github.com/containernetworking/plugins/plugins/main/macvlan"
	"github.com/containernetworking/plugins/plugins/main/ptp"
	"github.com/containernetworking/plugins/plugins/main/tap"
	"github.com/containernetworking/plugins/plugins/main/vlan"
	"github.com/containernetworking/plugins/plugins/meta/bandwidth"
	"github.com/containernetworking/plugins/plugins/meta/firewall"
	"github.com/containernetworking/plugins/plugins/meta/portmap"
	"github.com/containernetworking/plugins/plugins/meta/sbr"
	"github.com/containernetworking/plugins/plugins/meta/tuning"
	"github.com/containernetworking/plugins/plugins/meta/vrf"

	"github.com/imgbuild/imgbuild/assets/components/cni/podnet"
)

var plugins = map[string]func(){
	"bandwidth":   bandwidth.Main,
	"bridge":      bridge.Main,
	"dhcp":        dhcp.Main,
	"dummy":       dummy.Main,
	"firewall":    firewall.Main,
	"host-device": hostdevice.Main,
	"host-local":  hostlocal.Main,
	"ipvlan":      ipvlan.Main,
	"loopback":    loopback.Main,
	"macvlan":     macvlan.Main,
	"podnet":      podnet.Main,
	"portmap":     portmap.Main,
	"ptp":         ptp.Main,
	"sbr":         sbr.Main,
	"static":      static.Main,
	"tap":         tap.Main,
	"tuning":      tuning.Main,
	"vlan":        vlan.Main,
	"vrf":         vrf.Main,
}

func main() {
	name := path.Base(os.Args[0])
	run := plugins[name]
	if run == nil {
		fmt.Fprintf(os.Stderr, "%s is not the name of a CNI plugin: call this program through a link\n", name)
		os.Exit(2)
	}
	run()
}

// SPDX-License-Identifier: Apache-2.0

// Package cni turns the subnet file that flannel writes into the CNI network configuration of
// the container runtime (CNI specification 1.0.0, network configuration lists): a bridge per
// node, addresses from the node's own subnet, host ports. It knows nothing about clusters.
package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

const (
	// SubnetFile is what flannel writes and rewrites, in shell variable syntax.
	SubnetFile = "/run/flannel/subnet.env"
	// ConfigFile is where the container runtime looks; the first name in order wins. It says
	// the same on every node and at every time, so the runtime can load it at once.
	ConfigFile = "/etc/cni/net.d/10-imgbuild.conflist"
	// NetworkFile is what ConfigFile refers to: how this node attaches pods, since this boot.
	NetworkFile = "/run/imgbuild/pod-network.json"
	// Bridge is the interface that the node's pods are attached to.
	Bridge = "cni0"
)

// Subnet is the content of a subnet file.
type Subnet struct {
	// Networks are the pod networks of the cluster.
	Networks []netip.Prefix
	// Subnets are this node's parts of them, as the address of the bridge and its length.
	Subnets []netip.Prefix
	// MTU is that of the overlay, in bytes.
	MTU int
	// Masquerade says that flannel itself translates addresses of packets leaving the
	// cluster, so the bridge must not.
	Masquerade bool
}

// Parse reads a subnet file. Unknown variables are ignored, since flannel may add some; every
// problem with those that are needed is reported at once, with its line.
func Parse(text []byte) (Subnet, error) {
	var s Subnet
	var errs []error
	seen := map[string]bool{}
	for i, raw := range strings.Split(string(text), "\n") {
		line := strings.TrimSpace(raw)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("%s:%d: "+format, append([]any{SubnetFile, i + 1}, args...)...))
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			bad("%q is not NAME=value", line)
			continue
		}
		seen[name] = true
		switch name {
		case "FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK":
			for _, v := range strings.Split(value, ",") {
				p, err := netip.ParsePrefix(v)
				if err != nil {
					bad("%s: %q is not an address range such as 10.244.0.0/16", name, v)
					continue
				}
				s.Networks = append(s.Networks, p)
			}
		case "FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET":
			p, err := netip.ParsePrefix(value)
			if err != nil {
				bad("%s: %q is not an address range such as 10.244.0.1/24", name, value)
				continue
			}
			s.Subnets = append(s.Subnets, p)
		case "FLANNEL_MTU":
			n, err := strconv.Atoi(value)
			if err != nil || n < 576 || n > 65535 {
				bad("%s: %q is not an MTU from 576 to 65535", name, value)
				continue
			}
			s.MTU = n
		case "FLANNEL_IPMASQ":
			b, err := strconv.ParseBool(value)
			if err != nil {
				bad("%s: %q is neither true nor false", name, value)
				continue
			}
			s.Masquerade = b
		}
	}
	if !seen["FLANNEL_SUBNET"] && !seen["FLANNEL_IPV6_SUBNET"] {
		errs = append(errs, fmt.Errorf("%s: names no FLANNEL_SUBNET; flannel has not finished writing it, or failed", SubnetFile))
	}
	if !seen["FLANNEL_MTU"] {
		errs = append(errs, fmt.Errorf("%s: names no FLANNEL_MTU", SubnetFile))
	}
	return s, errors.Join(errs...)
}

type list struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	Plugins    []any  `json:"plugins"`
}

type bridge struct {
	Type             string    `json:"type"`
	Bridge           string    `json:"bridge"`
	MTU              int       `json:"mtu"`
	IsGateway        bool      `json:"isGateway"`
	IsDefaultGateway bool      `json:"isDefaultGateway"`
	HairpinMode      bool      `json:"hairpinMode"`
	IPMasq           bool      `json:"ipMasq"`
	IPAM             hostLocal `json:"ipam"`
}

type hostLocal struct {
	Type    string        `json:"type"`
	DataDir string        `json:"dataDir"`
	Ranges  [][]rangeSpec `json:"ranges"`
	Routes  []route       `json:"routes,omitempty"`
}

type rangeSpec struct {
	Subnet string `json:"subnet"`
}

type route struct {
	Dst string `json:"dst"`
}

type portmap struct {
	Type         string          `json:"type"`
	Capabilities map[string]bool `json:"capabilities"`
	// Backend keeps host ports in the packet filter that kube-proxy uses.
	Backend string `json:"backend,omitempty"`
}

// podnet is our plugin: it waits for a file and does as it says.
type podnet struct {
	Type   string `json:"type"`
	Config string `json:"config"`
}

// Config returns the configuration list. A pod that is started before NetworkFile exists
// waits for it. With nftables, host ports use that back end.
func Config(nftables bool) ([]byte, error) {
	ports := portmap{Type: "portmap", Capabilities: map[string]bool{"portMappings": true}}
	if nftables {
		ports.Backend = "nftables"
	}
	return encode(list{CNIVersion: "1.0.0", Name: "imgbuild", Plugins: []any{podnet{Type: "podnet", Config: NetworkFile}, ports}})
}

// Render returns the content of NetworkFile: the configuration of plugin bridge for this
// node. The pods get a route to each cluster network through the bridge besides their
// default route.
func Render(s Subnet) ([]byte, error) {
	if len(s.Subnets) == 0 || s.MTU == 0 {
		return nil, errors.New("cni: a subnet and an MTU are needed to render a configuration")
	}
	// Leases live in memory: no pod survives a reboot, so no lease may.
	ipam := hostLocal{Type: "host-local", DataDir: "/run/cni/networks"}
	for _, p := range s.Subnets {
		ipam.Ranges = append(ipam.Ranges, []rangeSpec{{Subnet: p.Masked().String()}})
	}
	for _, p := range s.Networks {
		ipam.Routes = append(ipam.Routes, route{Dst: p.Masked().String()})
	}
	return encode(bridge{Type: "bridge", Bridge: Bridge, MTU: s.MTU, IsGateway: true, IsDefaultGateway: true, HairpinMode: true, IPMasq: !s.Masquerade, IPAM: ipam})
}

func encode(v any) ([]byte, error) {
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("cni: %w", err)
	}
	return append(out, '\n'), nil
}

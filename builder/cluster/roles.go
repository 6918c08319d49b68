// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

func roleFile(role node.Role) string { return "roles/" + string(role) + ".ign" }

// roles makes one config for all hosts of a role, where each can be told by its hardware: for
// places that hand out one config only, such as a group of machines behind one PXE entry.
func (r *renderer) roles() error {
	for _, role := range []node.Role{node.ControlPlane, node.Worker} {
		hosts := r.shareable(role)
		if len(hosts) == 0 {
			continue
		}
		var keys []file
		if role == node.ControlPlane && r.Cluster.PKI.Mode == node.PKIShared {
			var err error
			if keys, err = r.cas.files(true); err != nil {
				return err
			}
		}
		document := r.document(hosts[0], r.material)
		document.Node, document.VIP.Priority = node.Machine{}, 0
		files := append([]file{{path: node.Path, mode: 0o600}}, r.commonFiles(role)...)
		for _, h := range hosts {
			document.Hosts = append(document.Hosts, node.Host{Match: h.Match, Node: r.Cluster.machine(h), VIPPriority: h.VIPPriority})
			files = append(files, networkFiles(h)...)
		}
		text, err := encode(document)
		if err != nil {
			return err
		}
		files[0].data = text
		if _, err := node.Parse(roleFile(role), text); err != nil {
			return err
		}
		config, err := r.config(append(files, keys...), r.Cluster.snippetsOf(hosts[0]))
		if err != nil {
			return err
		}
		if h := tooSmall(hosts, config); h != nil {
			r.result.Next = append(r.result.Next, fmt.Sprintf("use the config of each %s: one for all has %d bytes, and platform %s takes %d",
				strings.ReplaceAll(string(role), "-", " "), platforms[h.Platform].size(config), h.Platform, platforms[h.Platform].limit))
			continue
		}
		r.add("/"+roleFile(role), 0o600, config, "all hosts with role "+string(role)).describe = compareConfigs
	}
	return nil
}

// tooSmall returns a host whose platform does not take a config, or nil.
func tooSmall(hosts []*Host, config []byte) *Host {
	for _, h := range hosts {
		if p := platforms[h.Platform]; p.limit > 0 && p.size(config) > p.limit {
			return h
		}
	}
	return nil
}

// shareable returns the hosts of a role when one config can serve them all: each has
// something to match, and what cannot be chosen by the machine itself is the same.
func (r *renderer) shareable(role node.Role) []*Host {
	var hosts []*Host
	for i := range r.Cluster.Hosts {
		h := &r.Cluster.Hosts[i]
		if h.Role != role {
			continue
		}
		n := h.Network
		// systemd-networkd chooses by the MAC address; what has none is for every machine.
		byMAC := h.Match.MAC != "" && n.Bond == nil && *n.VLAN == 0 && n.Interface == auto
		if h.Match == (node.Match{}) || len(networkFiles(h)) > 0 && !byMAC || len(h.Butane) > 0 ||
			!reflect.DeepEqual(h.Kubelet, node.Kubelet{}) || r.Cluster.PKI.Mode == node.PKIExternal {
			return nil
		}
		hosts = append(hosts, h)
	}
	return hosts
}

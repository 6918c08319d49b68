// SPDX-License-Identifier: Apache-2.0

package node

import (
	"slices"
	"time"
)

// Members returns the control planes whose etcd members start the cluster.
func (c Cluster) Members() []Peer {
	if len(c.Founders) == 0 {
		return c.ControlPlanes
	}
	var out []Peer
	for _, p := range c.ControlPlanes {
		if slices.Contains(c.Founders, p.Name) {
			out = append(out, p)
		}
	}
	return out
}

// CreatedAt returns Created, of a valid document; zero where it is empty.
func (c Cluster) CreatedAt() time.Time {
	t, _ := time.Parse(time.RFC3339, c.Created)
	return t
}

// KnownControlPlanes returns every control plane the document names: those of
// cluster.controlPlanes, and in a document that several control planes share its hosts. A
// host whose address the document leaves to DHCP has an empty one.
func (n *Node) KnownControlPlanes() []Peer {
	out := slices.Clone(n.Cluster.ControlPlanes)
	if n.Role != ControlPlane {
		return out
	}
	for _, h := range n.Hosts {
		p := Peer{Name: h.Node.Name, Address: h.Node.Address}
		if !slices.Contains(out, p) && (p.Address != "" || !slices.ContainsFunc(out, func(o Peer) bool { return o.Name == p.Name })) {
			out = append(out, p)
		}
	}
	return out
}

// For returns how a component is delivered.
func (d Delivery) For(component string) DeliveryMode {
	if m, ok := d.Components[component]; ok {
		return m
	}
	return d.Mode
}

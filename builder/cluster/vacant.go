// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// vacant judges what the file says of a role that no host has, by a host with nothing of its own
// that stands in for one: the next machine is not the first to learn of it.
func (v *validator) vacant() {
	for role, at := range map[node.Role]string{node.ControlPlane: "roles.controlPlane", node.Worker: "roles.worker"} {
		if slices.ContainsFunc(v.c.Hosts, func(h Host) bool { return h.Role == role }) {
			continue
		}
		c, s := *v.c, *v.Source
		c.Hosts, s.Cluster = append(slices.Clone(c.Hosts), Host{Name: "stand-in", Role: role, Network: merged(c.HostNetwork, HostNetwork{})}), &c
		with, i := &validator{&s, &c}, len(v.c.Hosts)
		h, m := &c.Hosts[i], with.standIns()
		text, err := encode(with.document(h, &m))
		if err == nil {
			_, err = node.Parse(h.Name, text)
		}
		var problems strict.Problems
		errors.As(err, &problems)
		for _, p := range problems {
			if from, _ := with.origin(i, p.Path); strings.HasPrefix(from, at+".") {
				v.fail(from, p.Message, p.Allowed)
			}
		}
		if len(c.role(h).Butane) == 0 || len(v.doc.Problems())+len(v.extra) > 0 {
			continue // there is nothing that others do not show, or no config
		}
		if _, err := with.trial(h); err != nil {
			v.fail(at+".butane", err.Error())
		}
	}
}

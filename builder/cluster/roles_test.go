// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

const matched = `apiVersion: imgbuild.io/v1alpha1
kind: Cluster
name: demo
hosts:
- {name: cp-1, role: control-plane, address: 192.0.2.11, match: {uuid: 8E2B4B4C-0D0C-4C5F-9C52-0B8A3F4A1B2C}}
- {name: w-1, role: worker, match: {mac: "52:54:00:00:00:11"}, labels: {a: b}}
- {name: w-2, role: worker, match: {serial: S2}, taints: []}
- {name: w-3, role: worker, match: {uuid: 00000000-0000-4000-8000-000000000003, serial: S3}}
`

// One config serves all hosts of a role: each finds itself by what its hardware says, and what
// is nobody stops.
func TestRoleConfigTellsHostsApart(t *testing.T) {
	dir := t.TempDir()
	rendered(t, parse(t, matched), dir)
	for _, c := range []struct {
		role  node.Role
		facts node.Facts
		name  string
	}{
		{node.ControlPlane, node.Facts{UUID: "8e2b4b4c-0d0c-4c5f-9c52-0b8a3f4a1b2c", Serial: "x"}, "cp-1"},
		{node.Worker, node.Facts{MACs: []string{"52:54:00:00:00:99", "52:54:00:00:00:11"}}, "w-1"},
		{node.Worker, node.Facts{Serial: "s2"}, "w-2"},
		{node.Worker, node.Facts{UUID: "00000000-0000-4000-8000-000000000003", Serial: "S3"}, "w-3"},
		{node.Worker, node.Facts{UUID: "00000000-0000-4000-8000-000000000003", Serial: "S4"}, ""},
		{node.Worker, node.Facts{}, ""},
	} {
		h := readHost(t, dir, roleFile(c.role))
		n := h.document(t)
		if ok := n.Resolve(c.facts); ok != (c.name != "") || n.Node.Name != c.name {
			t.Errorf("%+v is %q, want %q", c.facts, n.Node.Name, c.name)
		}
		if _, own := h.file(t, "/etc/hostname"); own {
			t.Error("one config for several hosts has the name of one")
		}
	}
}

// Where something of a host cannot be chosen by the machine itself, there is no config for all.
func TestNoRoleConfigWhereHostsDiffer(t *testing.T) {
	for _, own := range []string{"butane: [a.bu]", "kubelet: {maxPods: 9}", "network: {interface: eth0, mtu: 9000}", "network: {bond: {members: [eno1]}}"} {
		dir := t.TempDir()
		text := strings.Replace(matched, "taints: []", own, 1)
		rendered(t, parse(t, text, "a.bu", "variant: fcos\nversion: 1.6.0\n"), dir)
		if _, err := os.Stat(filepath.Join(dir, roleFile(node.Worker))); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", own, err)
		}
		if _, err := os.Stat(filepath.Join(dir, roleFile(node.ControlPlane))); err != nil {
			t.Errorf("%s: %v", own, err)
		}
	}
}

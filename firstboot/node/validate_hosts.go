// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/firstboot/strict"
)

func (v *validator) machine(path string, m Machine, role Role) {
	v.name(path+".name", m.Name)
	v.match(path+".interface", m.Interface, interfaceForm, "is not an interface name", "1 to 15 characters without / and spaces")
	for k, val := range m.Labels {
		at := path + ".labels." + k
		if !labelForm.MatchString(k) {
			v.fail(at, "is not a label key", "[prefix/]name, the name at most 63 letters, digits, dashes, underscores and dots")
		}
		if role == Worker && !KubeletMaySet(k) {
			v.fail(at, "a kubelet may not set it on its own node, and a worker has no other rights", "another prefix than kubernetes.io and k8s.io, or kubectl label node once it has joined")
		}
		v.match(at, val, valueForm, "is not a label value", "at most 63 letters, digits, dashes, underscores and dots")
	}
	if m.Taints == nil {
		return
	}
	for i, t := range *m.Taints {
		at := fmt.Sprintf("%s.taints[%d]", path, i)
		if !labelForm.MatchString(t.Key) {
			v.fail(at+".key", "is not a taint key", "[prefix/]name")
		}
		v.match(at+".value", t.Value, valueForm, "is not a taint value", "at most 63 letters, digits, dashes, underscores and dots")
		strict.OneOf(v.doc, at+".effect", t.Effect, "NoSchedule", "PreferNoSchedule", "NoExecute")
		if slices.ContainsFunc((*m.Taints)[:i], func(o Taint) bool { return o.Key == t.Key && o.Effect == t.Effect }) {
			v.fail(at, "has the key and the effect of an earlier one", "a key once with each effect")
		}
	}
}

var uuidForm = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

func (v *validator) hosts(n *Node) {
	if len(n.Hosts) > 0 && (n.Node.Name != "" || n.Node.Address != "") {
		v.fail("node", "names one machine, and hosts several", "one of the two")
	}
	seen := map[string]int{}
	for i, h := range n.Hosts {
		at := fmt.Sprintf("hosts[%d]", i)
		v.machine(at+".node", h.Node, n.Role)
		if h.Node.Name == "" {
			v.fail(at+".node.name", "is missing", nameRule)
		}
		if p := h.VIPPriority; p != 0 && (p < 2 || p > 254) {
			v.fail(at+".vipPriority", "is out of range", "2 to 254, or 0 for vip.priority")
		}
		v.hostMatch(at+".match", h.Match)
		for what, value := range map[string]string{".node.name": h.Node.Name, ".node.address": h.Node.Address,
			".match.mac": strings.ToLower(h.Match.MAC), ".match.uuid": strings.ToLower(h.Match.UUID), ".match.serial": strings.ToLower(h.Match.Serial)} {
			if j, dup := seen[what+"="+value]; dup && value != "" {
				v.fail(at+what, fmt.Sprintf("is also that of hosts[%d]", j), "one of its own")
			}
			seen[what+"="+value] = i
		}
	}
}

func (v *validator) hostMatch(path string, m Match) {
	if m == (Match{}) {
		v.fail(path, "names nothing", "at least one of mac, uuid, serial")
	}
	if hw, err := net.ParseMAC(m.MAC); m.MAC != "" && (err != nil || len(hw) != 6 || !strings.Contains(m.MAC, ":")) {
		v.fail(path+".mac", "is not a MAC address", "six pairs of hexadecimal digits with colons, for example 52:54:00:12:34:56")
	}
	v.match(path+".uuid", m.UUID, uuidForm, "is not a UUID", "8-4-4-4-12 hexadecimal digits")
	if m.Serial != "" && strings.TrimSpace(m.Serial) != m.Serial {
		v.fail(path+".serial", "begins or ends with a space", "the serial number as the firmware reports it")
	}
}

// Facts are what a machine's hardware says about itself.
type Facts struct {
	// MACs of all interfaces, with colons.
	MACs         []string
	UUID, Serial string
}

// Matches reports whether everything that m gives agrees with the machine.
func (m Match) Matches(f Facts) bool {
	if m == (Match{}) {
		return false
	}
	agrees := func(want string, have ...string) bool {
		for _, h := range have {
			if strings.EqualFold(want, h) {
				return true
			}
		}
		return want == ""
	}
	return agrees(m.MAC, f.MACs...) && agrees(m.UUID, f.UUID) && agrees(m.Serial, f.Serial)
}

// Resolve puts the entry of hosts that matches the machine in the place of node. It reports
// false when there are entries and none matches; a document without entries is left as it is.
func (n *Node) Resolve(f Facts) bool {
	if len(n.Hosts) == 0 {
		return true
	}
	for _, h := range n.Hosts {
		if h.Match.Matches(f) {
			n.Node, n.VIP.Priority = h.Node, cmp.Or(h.VIPPriority, n.VIP.Priority)
			return true
		}
	}
	return false
}

// SPDX-License-Identifier: Apache-2.0

package node

import (
	"strings"
	"testing"
)

const threeControlPlanes = minimal + `pki: {mode: shared}
cluster:
  endpoint: 192.0.2.10:6443
  controlPlanes: [{name: a, address: 192.0.2.11}, {name: b, address: 192.0.2.12}, {name: c, address: 192.0.2.13}]
`

func TestMembersAreTheFounders(t *testing.T) {
	for text, want := range map[string]string{"": "a b c", "  founders: [c, a]": "a c"} {
		n, err := Parse("n", []byte(threeControlPlanes+text))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, p := range n.Cluster.Members() {
			names = append(names, p.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%q: %s, not %s", text, got, want)
		}
	}
}

const shared = minimal + `
hosts:
  - {match: {mac: "52:54:00:12:34:56"}, node: {name: a, address: 192.0.2.11}, vipPriority: 90}
  - {match: {uuid: 8E2B4B4C-0D0C-4C5F-9C52-0B8A3F4A1B2C, serial: S2}, node: {name: b}}
`

func TestResolve(t *testing.T) {
	for _, c := range []struct {
		facts    Facts
		name     string
		priority int
	}{
		{Facts{MACs: []string{"52:54:00:00:00:01", "52:54:00:12:34:56"}}, "a", 90},
		{Facts{UUID: "8e2b4b4c-0d0c-4c5f-9c52-0b8a3f4a1b2c", Serial: "s2"}, "b", 0},
		{Facts{UUID: "8e2b4b4c-0d0c-4c5f-9c52-0b8a3f4a1b2c", Serial: "s3"}, "", 0},
		{Facts{}, "", 0},
	} {
		n, err := Parse("n", []byte(shared))
		if err != nil {
			t.Fatal(err)
		}
		if ok := n.Resolve(c.facts); ok != (c.name != "") || n.Node.Name != c.name || n.VIP.Priority != c.priority {
			t.Errorf("%+v: %v, %q, %d", c.facts, ok, n.Node.Name, n.VIP.Priority)
		}
	}
	if n, err := Parse("n", []byte(minimal+"node: {name: x}")); err != nil || !n.Resolve(Facts{}) || n.Node.Name != "x" {
		t.Errorf("a document for one machine: %v", err)
	}
}

var hostRefusals = []refusal{
	{minimal + "hosts: [{node: {name: a}}]", "hosts[0].match: names nothing"},
	{minimal + "hosts: [{match: {serial: x}, node: {}}]", "hosts[0].node.name: is missing"},
	{minimal + "hosts: [{match: {mac: 5254}, node: {name: a}}]", `hosts[0].match.mac: value "5254": is not a MAC`},
	{minimal + "hosts: [{match: {uuid: x}, node: {name: a}}]", `hosts[0].match.uuid: value "x": is not a UUID`},
	{minimal + "hosts: [{match: {serial: ' x'}, node: {name: a}}]", "hosts[0].match.serial: value \" x\": begins or ends"},
	{minimal + "hosts: [{match: {serial: x}, node: {name: a}, vipPriority: 300}]", `hosts[0].vipPriority: value "300": is out of range`},
	{minimal + "hosts: [{match: {serial: x}, node: {name: a}, vipPriority: 1}]", `hosts[0].vipPriority: value "1": is out of range; allowed: 2 to 254, or 0 for vip.priority`},
	{minimal + "hosts: [{match: {serial: x}, node: {name: a}}, {match: {serial: X}, node: {name: a}}]", "hosts[1].match.serial: value \"X\": is also that of hosts[0]"},
	{minimal + "node: {name: b}\nhosts: [{match: {serial: x}, node: {name: a}}]", "node: names one machine"},
	{minimal + "hosts: [{match: {serial: x}, node: {name: a, address: 10.96.0.9}}]", "hosts[0].node.address: value \"10.96.0.9\": lies inside"},
	{minimal + "hosts: [{match: {serial: x}, node: {name: a, taints: [{key: k, effect: x}]}}]", `hosts[0].node.taints[0].effect: value "x": is not known`},
	{minimal + "join: {caVerification: x}", `join.caVerification: value "x": is not known`},
	{minimal + "network: {manifests: [x]}", `network.manifests[0]: value "x": is not an absolute path`},
	{minimal + "delivery: {foreignImages: {etcd: x}}", `delivery.foreignImages.etcd: value "x": is not a component`},
	{threeControlPlanes + "  founders: [d]", `cluster.founders[0]: value "d": is not the name`},
	{threeControlPlanes + "  founders: [a, a]", `cluster.founders[1]: value "a": was already`},
}

// The kubelet's certificate is delivered, so there is nothing to join with.
func TestWorkerOfAnExternalAuthorityNeedsNoToken(t *testing.T) {
	const worker = "apiVersion: imgbuild.io/v1alpha1\nkind: Node\nrole: worker\ncluster: {endpoint: 'api.example.com:6443'}\npki: {mode: %s}\n"
	if _, err := Parse("n", []byte(strings.Replace(worker, "%s", "external", 1))); err != nil {
		t.Error(err)
	}
	if _, err := Parse("n", []byte(strings.Replace(worker, "%s", "shared", 1))); err == nil || !strings.Contains(err.Error(), "bootstrapTokens: is missing") {
		t.Error(err)
	}
}

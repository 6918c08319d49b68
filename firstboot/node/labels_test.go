// SPDX-License-Identifier: Apache-2.0

package node

import (
	"strings"
	"testing"
)

func TestKubeletMaySet(t *testing.T) {
	for key, want := range map[string]bool{
		"zone": true, "example.com/zone": true, "notkubernetes.io/x": true, "imgbuild.io/delivery": true,
		"topology.kubernetes.io/zone": true, "node.kubernetes.io/instance-type": true, "node.kubernetes.io/x": true, "a.kubelet.kubernetes.io/x": true,
		"node-role.kubernetes.io/worker": false, "kubernetes.io/x": false, "x.k8s.io/y": false, "topology.kubernetes.io/x": false,
		"node-restriction.kubernetes.io/x": false, "k8s.io/x": false,
	} {
		if got := KubeletMaySet(key); got != want {
			t.Errorf("%s: %v", key, got)
		}
	}
}

// Nobody sets such a label on a worker, so a document that asks for it is refused.
func TestLabelsOfWorkers(t *testing.T) {
	const head = "apiVersion: imgbuild.io/v1alpha1\nkind: Node\nrole: %s\ncluster: {endpoint: 'api.example.com:6443'}\nbootstrapTokens: [{token: abcdef.0123456789abcdef}]\njoin: {caVerification: token}\n"
	for _, c := range []struct{ role, text, want string }{
		{"worker", "node: {labels: {node-role.kubernetes.io/worker: ''}}", `node.labels.node-role.kubernetes.io/worker: value "": a kubelet may not set it`},
		{"worker", "hosts: [{match: {serial: x}, node: {name: a, labels: {kubernetes.io/x: y}}}]", "hosts[0].node.labels.kubernetes.io/x: value"},
		{"worker", "node: {labels: {topology.kubernetes.io/zone: a, example.com/x: b}}", ""},
		{"control-plane", "node: {labels: {node-role.kubernetes.io/infra: ''}}", ""},
	} {
		_, err := Parse("n", []byte(strings.Replace(head, "%s", c.role, 1)+c.text))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.text, err, c.want)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"strings"
	"testing"
)

// What a role says is judged before a host has it.
func TestRoleThatNoHostHas(t *testing.T) {
	dir := place(t, "fine.bu", "variant: fcos\nversion: 1.6.0\n", "clash.bu", "variant: fcos\nversion: 1.6.0\nstorage: {links: [{path: /etc/imgbuild, target: /x}]}\n")
	workers := strings.Replace(alone, "role: control-plane", "role: worker", 1)
	for _, c := range []struct{ text, want string }{
		{alone + "roles: {worker: {labels: {'a b': x}}}", `cluster.yaml:5:34: roles.worker.labels.a b: value "x": is not a label key`},
		{alone + "roles: {worker: {labels: {kubernetes.io/x: y}}}", `roles.worker.labels.kubernetes.io/x: value "y": a kubelet may not set it`},
		{alone + "roles: {worker: {taints: [{key: k, effect: x}]}}", `roles.worker.taints[0].effect: value "x": is not known; allowed: NoSchedule`},
		{alone + "roles: {worker: {kubelet: {maxPods: -1}}}", `roles.worker.kubelet.maxPods: value "-1": is negative`},
		{alone + "roles: {worker: {kubelet: {systemReserved: {cpu: lots}}}}", `roles.worker.kubelet.systemReserved.cpu: value "lots": is not a quantity`},
		{alone + "roles: {worker: {kubelet: {evictionSoft: {memory.available: 1Gi}}}}", `roles.worker.kubelet.evictionSoft.memory.available: value "1Gi": has no grace period`},
		{alone + "roles: {worker: {butane: [fine.bu, clash.bu]}}", "roles.worker.butane: the snippet clash.bu does not go together with the rest"},
		{strings.Replace(alone, "{name: a,", "{name: a, labels: {'a b': x}, kubelet: {maxPods: 9},", 1) + "roles: {worker: {labels: {'a b': y}, kubelet: {maxPods: -1}}}", `roles.worker.labels.a b: value "y"`},
		{workers + "roles: {controlPlane: {labels: {'a b': x}}}", `roles.controlPlane.labels.a b: value "x": is not a label key`},
		{workers + "roles: {controlPlane: {kubelet: {maxPods: -1}}}", `roles.controlPlane.kubelet.maxPods: value "-1": is negative`},
	} {
		if _, err := Parse("cluster.yaml", dir, []byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\ngot  %v\nwant %s", c.text, err, c.want)
		}
	}
	fine := "roles: {worker: {labels: {a: b}, taints: [], kubelet: {maxPods: 9, evictionSoft: {memory.available: 1Gi}, evictionSoftGracePeriod: {memory.available: 1m}}, butane: [fine.bu]}}"
	for _, text := range []string{alone + fine, alone + fine + "\npki: {mode: generate}", alone + fine + "\npki: {mode: external}", strings.Replace(alone, "name: demo", "name: demo\nendpoint: {mode: local}\nhostNetwork: {addressing: static, subnet: 192.0.2.0/24, interface: eth0}", 1) + fine} {
		if _, err := Parse("cluster.yaml", dir, []byte(text)); err != nil {
			t.Errorf("%s\n%v", text, err)
		}
	}
}

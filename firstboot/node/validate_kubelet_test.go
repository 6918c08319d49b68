// SPDX-License-Identifier: Apache-2.0

package node

import "testing"

func TestKubeletThresholds(t *testing.T) {
	for _, text := range []string{
		"{systemReserved: {cpu: 200m, memory: 256Mi, ephemeral-storage: 1Gi, pid: 1000}}",
		"{evictionHard: {memory.available: 200Mi, nodefs.available: 10%}, evictionSoft: {pid.available: 5%}, evictionSoftGracePeriod: {pid.available: 90s}}",
	} {
		if _, err := Parse("n", []byte(minimal+"kubelet: "+text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

var kubeletRefusals = []refusal{
	{minimal + "kubelet: {systemReserved: {cpu: lots}}", `kubelet.systemReserved.cpu: value "lots": is not a quantity`},
	{minimal + "kubelet: {kubeReserved: {memory: '-1Gi'}}", `kubelet.kubeReserved.memory: value "-1Gi": is not a quantity`},
	{minimal + "kubelet: {kubeReserved: {disk: 1Gi}}", `kubelet.kubeReserved.disk: value "1Gi": is not a resource`},
	{minimal + "kubelet: {evictionHard: {memory: 1Gi}}", `kubelet.evictionHard.memory: value "1Gi": is not an eviction signal`},
	{minimal + "kubelet: {evictionSoft: {memory.available: 120%}}", `kubelet.evictionSoft.memory.available: value "120%": is neither`},
	{minimal + "kubelet: {evictionSoft: {nodefs.available: some}}", `kubelet.evictionSoft.nodefs.available: value "some": is neither`},
	{minimal + "kubelet: {evictionSoft: {memory.available: 1Gi}}", `kubelet.evictionSoft.memory.available: value "1Gi": has no grace period`},
	{minimal + "kubelet: {evictionSoftGracePeriod: {memory.available: 1m}}", `kubelet.evictionSoftGracePeriod.memory.available: value "1m": has no threshold`},
	{minimal + "kubelet: {evictionSoft: {memory.available: 1Gi}, evictionSoftGracePeriod: {memory.available: 0s}}", `kubelet.evictionSoftGracePeriod.memory.available: value "0s": is not a positive`},
	{minimal + "kubelet: {evictionSoft: {memory.available: 1Gi}, evictionSoftGracePeriod: {memory.available: soon}}", `kubelet.evictionSoftGracePeriod.memory.available: value "soon": is not a duration`},
	{minimal + "kubelet: {evictionHard: {nodefs.inodesFree: '-10%'}}", `kubelet.evictionHard.nodefs.inodesFree: value "-10%": is neither`},
}

// SPDX-License-Identifier: Apache-2.0

package node

import (
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Resources that can be reserved and signals that pods can be evicted on, as the kubelet of
// Kubernetes 1.36 knows them.
var (
	reservable = []string{"cpu", "memory", "ephemeral-storage", "pid"}
	signals    = []string{"memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree",
		"containerfs.available", "containerfs.inodesFree", "pid.available"}
)

// kubelet checks reservations and eviction thresholds, which the kubelet refuses to start
// with when they are wrong.
func (v *validator) kubelet(in string, k Kubelet) {
	if k.MaxPods < 0 {
		v.fail(in+".maxPods", "is negative", "1 or more")
	}
	if r := k.ResolvConf; r != "" && !strings.HasPrefix(r, "/") {
		v.fail(in+".resolvConf", "is not an absolute path", "a path that begins with /")
	}
	for at, list := range map[string]map[string]string{in + ".systemReserved": k.SystemReserved, in + ".kubeReserved": k.KubeReserved} {
		for name, value := range list {
			if !slices.Contains(reservable, name) {
				v.fail(at+"."+name, "is not a resource that can be reserved", strings.Join(reservable, ", "))
			} else if q, err := resource.ParseQuantity(value); err != nil || q.Sign() < 0 {
				v.fail(at+"."+name, "is not a quantity", "a quantity such as 200m or 512Mi")
			}
		}
	}
	for name := range k.EvictionSoft {
		if _, ok := k.EvictionSoftGracePeriod[name]; !ok && slices.Contains(signals, name) {
			v.fail(in+".evictionSoft."+name, "has no grace period, without which the kubelet does not start", in+".evictionSoftGracePeriod."+name+", for example 90s")
		}
	}
	for name, d := range k.EvictionSoftGracePeriod {
		at := in + ".evictionSoftGracePeriod." + name
		if _, ok := k.EvictionSoft[name]; !ok {
			v.fail(at, "has no threshold", "one of the signals in "+in+".evictionSoft")
		} else if d <= 0 {
			v.fail(at, "is not a positive duration", "for example 90s")
		}
	}
	for at, list := range map[string]map[string]string{in + ".evictionHard": k.EvictionHard, in + ".evictionSoft": k.EvictionSoft} {
		for name, value := range list {
			if !slices.Contains(signals, name) {
				v.fail(at+"."+name, "is not an eviction signal", strings.Join(signals, ", "))
			} else if !threshold(value) {
				v.fail(at+"."+name, "is neither a quantity nor a percentage", "a quantity such as 200Mi, or 0% to 100%")
			}
		}
	}
}

func threshold(value string) bool {
	if number, ok := strings.CutSuffix(value, "%"); ok {
		p, err := strconv.ParseFloat(number, 32)
		return err == nil && p >= 0 && p <= 100
	}
	q, err := resource.ParseQuantity(value)
	return err == nil && q.Sign() >= 0
}

// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"testing"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
	"github.com/imgbuild/imgbuild/firstboot/manifests"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// A machine's own settings are in its configuration and not in the one that all share.
func TestInstance(t *testing.T) {
	c := kubeadmtest.Config(t)
	c.SharedKubelet = node.Kubelet{MaxPods: 50, SystemReserved: map[string]string{"cpu": "200m"}, EvictionHard: map[string]string{"memory.available": "200Mi"}}
	own := node.Kubelet{MaxPods: 30, KubeReserved: map[string]string{"memory": "300Mi"}, ResolvConf: "/run/resolv.conf"}
	shared := manifests.ClusterKubelet(c)
	k := instance(shared, own)
	if k.MaxPods != 30 || k.SystemReserved["cpu"] != "200m" || k.KubeReserved["memory"] != "300Mi" || *k.ResolverConfig != "/run/resolv.conf" ||
		k.EvictionHard["memory.available"] != "200Mi" || k.MergeDefaultEvictionSettings == nil {
		t.Errorf("%+v", k)
	}
	if shared.MaxPods != 50 || shared.KubeReserved != nil {
		t.Errorf("the shared configuration changed: %+v", shared)
	}
}

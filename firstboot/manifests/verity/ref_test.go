// SPDX-License-Identifier: Apache-2.0

package verity

import (
	"slices"
	"testing"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
)

// TestRef looks at names as kubeadm upgrade plan does: what stands behind the colon is a version.
func TestRef(t *testing.T) {
	for component, want := range map[string]string{
		kubeadm.APIServer: "imgbuild.io/base:v1.36.3", kubeadm.ControllerManager: "imgbuild.io/base:v1.36.3", kubeadm.Scheduler: "imgbuild.io/base:v1.36.3",
		kubeadm.CoreDNS: "imgbuild.io/base:v1.14.2", kubeadm.Proxy: "imgbuild.io/base:2", kubeadm.Flannel: "imgbuild.io/base:2", kubeadm.Etcd: "imgbuild.io/base:2",
	} {
		if got := Ref(component, "v1.36.3"); got != want {
			t.Errorf("%s: %s, want %s", component, got, want)
		}
	}
	// Pods that run on any node need a name that every node has.
	if dns := Ref(kubeadm.CoreDNS, "v1.36.3"); !slices.Contains(Everywhere(), dns) {
		t.Errorf("%s is not everywhere: %v", dns, Everywhere())
	}
}

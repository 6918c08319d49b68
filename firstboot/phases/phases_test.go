// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"slices"
	"testing"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

// TestGraph checks the promises the order of phases makes.
func TestGraph(t *testing.T) {
	var n node.Node
	node.SetDefaults(&n)
	g, err := Graph(n.Timeouts)
	if err != nil {
		t.Fatal(err)
	}
	needs := map[string][]string{}
	for _, p := range g.For(string(node.ControlPlane)) {
		needs[p.Name] = p.Needs
	}
	var reaches func(from, to string) bool
	reaches = func(from, to string) bool {
		return slices.ContainsFunc(needs[from], func(n string) bool { return n == to || reaches(n, to) })
	}
	for _, c := range []struct {
		phase, before string
		want          bool
		why           string
	}{
		{BootstrapToken, UploadConfig, true, "a joining machine reads the configuration right after cluster-info"},
		{BootstrapToken, Addons, true, "and kube-proxy's"},
		{Etcd, BaseImage, true, "a pod without its image is backed off for ten seconds"},
		{ControlPlane, BaseImage, true, "a pod without its image is backed off for ten seconds"},
		{KubeletStart, BaseImage, false, "the kubelet starts while the image is imported"},
		{KubeletStart, ControlPlane, false, "the kubelet starts while manifests are written"},
		{UploadConfig, WaitControlPlane, false, "objects are written while components report healthy"},
		{Etcd, Kubeconfig, false, "etcd needs certificates only"},
		{Certs, Preflight, true, "certificates need a clock that is set"},
	} {
		if got := reaches(c.phase, c.before); got != c.want {
			t.Errorf("%s after %s: %v; %s", c.phase, c.before, got, c.why)
		}
	}
	for name := range needs {
		if name != HandOver && !reaches(HandOver, name) {
			t.Errorf("first boot could end without %s", name)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/kube-proxy/config/v1alpha1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// TestKubeProxyTakesEveryMode lets the image's kube-proxy read, complete and validate what it is
// given in each mode.
func TestKubeProxyTakesEveryMode(t *testing.T) {
	components := os.Getenv(componentsEnv)
	if components == "" {
		t.Skipf("%s does not name a directory with kubernetes", componentsEnv)
	}
	dir := t.TempDir()
	read := func(text string) (*v1alpha1.KubeProxyConfiguration, string) {
		t.Helper()
		config, completed := filepath.Join(dir, "config.conf"), filepath.Join(dir, "completed.yaml")
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), filepath.Join(components, "kubernetes"))
		cmd.Args = []string{"kube-proxy", "--config=" + config, "--write-config-to=" + completed}
		if said, err := cmd.CombinedOutput(); err != nil {
			return nil, string(said)
		}
		out, err := os.ReadFile(completed)
		k := &v1alpha1.KubeProxyConfiguration{}
		if err == nil {
			err = yaml.UnmarshalStrict(out, k)
		}
		if err != nil {
			t.Fatal(err)
		}
		return k, ""
	}
	var last string
	for mode, want := range map[node.ProxyMode]v1alpha1.ProxyMode{node.ProxyNFTables: "nftables", node.ProxyIPTables: "iptables", node.ProxyIPVS: "ipvs",
		node.ProxyUpstream: "iptables"} { // its own choice, today
		cm, err := addons.ProxyConfigMap(kubeadmtest.Config(t, func(n *node.Node) { n.Cluster.ProxyMode = mode }))
		if err != nil {
			t.Fatal(err)
		}
		last = cm.Data["config.conf"]
		k, said := read(last)
		if k == nil {
			t.Errorf("kube-proxy refuses mode %s: %s", mode, said)
		} else if k.Mode != want || k.BindAddress != "0.0.0.0" || k.ClusterCIDR != "10.244.0.0/16" {
			t.Errorf("mode %s: kube-proxy understands %q, %s, %s", mode, k.Mode, k.BindAddress, k.ClusterCIDR)
		}
	}
	if k, said := read(strings.Replace(last, "clusterCIDR: 10", "clusterCIDR: x", 1)); k != nil || !strings.Contains(said, "ClusterCIDR") {
		t.Errorf("kube-proxy accepts anything: %s", said)
	}
}

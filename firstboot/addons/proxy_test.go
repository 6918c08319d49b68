// SPDX-License-Identifier: Apache-2.0

package addons

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/kube-proxy/config/v1alpha1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// TestProxyConfiguration decodes what kube-proxy is given with kube-proxy's own types.
func TestProxyConfiguration(t *testing.T) {
	for _, c := range []struct {
		name  string
		edits []func(*node.Node)
		mode  v1alpha1.ProxyMode
		bind  string
		pods  string
	}{
		{"of a document that says nothing", []func(*node.Node){func(n *node.Node) { n.Cluster.ProxyMode = ""; node.SetDefaults(n) }}, "nftables", "0.0.0.0", "10.244.0.0/16"},
		{"nftables", []func(*node.Node){proxyMode(node.ProxyNFTables)}, "nftables", "0.0.0.0", "10.244.0.0/16"},
		{"iptables", []func(*node.Node){proxyMode(node.ProxyIPTables)}, "iptables", "0.0.0.0", "10.244.0.0/16"},
		{"ipvs", []func(*node.Node){proxyMode(node.ProxyIPVS)}, "ipvs", "0.0.0.0", "10.244.0.0/16"},
		{"of kube-proxy's own choice", []func(*node.Node){proxyMode(node.ProxyUpstream)}, "", "0.0.0.0", "10.244.0.0/16"},
		{"iptables with IPv6", []func(*node.Node){proxyMode(node.ProxyIPTables), func(n *node.Node) {
			n.Node.Address, n.Cluster.Networking.PodSubnet, n.Cluster.Networking.ServiceSubnet = "2001:db8::11", "fd00:10::/56", "fd00:20::/112"
			n.Cluster.Endpoint, n.Cluster.ControlPlanes = "", nil
		}}, "iptables", "::", "fd00:10::/56"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := kubeadmtest.Config(t, append(c.edits, kubeadmtest.Verity)...)
			objs, err := proxy(config, inputs())
			if err != nil {
				t.Fatal(err)
			}
			cm, ok := objs[0].Obj.(*corev1.ConfigMap)
			if !ok || cm.Name != kubeadm.Proxy {
				t.Fatalf("first comes %s", Key(objs[0].Obj))
			}
			var k v1alpha1.KubeProxyConfiguration
			if err := yaml.UnmarshalStrict([]byte(cm.Data["config.conf"]), &k); err != nil {
				t.Fatal(err)
			}
			if k.GroupVersionKind() != v1alpha1.SchemeGroupVersion.WithKind("KubeProxyConfiguration") {
				t.Errorf("it is a %s", k.GroupVersionKind())
			}
			if k.Mode != c.mode || k.BindAddress != c.bind || k.ClusterCIDR != c.pods {
				t.Errorf("mode %q, bindAddress %q, clusterCIDR %q; want %q, %q, %q", k.Mode, k.BindAddress, k.ClusterCIDR, c.mode, c.bind, c.pods)
			}
			// The file beside it leads to the endpoint.
			if k.ClientConnection.Kubeconfig != proxyDir+"/kubeconfig.conf" {
				t.Errorf("kubeconfig %s", k.ClientConnection.Kubeconfig)
			}
			login, err := clientcmd.Load([]byte(cm.Data["kubeconfig.conf"]))
			if err != nil {
				t.Fatal(err)
			}
			if cluster := login.Clusters[login.Contexts[login.CurrentContext].Cluster]; cluster == nil || cluster.Server != config.EndpointURL() {
				t.Errorf("it asks %+v", cluster)
			}
		})
	}
}

func proxyMode(m node.ProxyMode) func(*node.Node) {
	return func(n *node.Node) { n.Cluster.ProxyMode = m }
}

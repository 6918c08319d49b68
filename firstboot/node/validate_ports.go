// SPDX-License-Identifier: Apache-2.0

package node

// listeners are the programs of a control plane and the ports that they always listen on, on an
// address of the machine at least.
var listeners = []struct {
	port int
	of   string
}{
	{2379, "etcd"}, {2380, "etcd"}, {2381, "etcd"},
	{10248, "the kubelet"}, {10249, "kube-proxy"}, {10250, "the kubelet"}, {10256, "kube-proxy"},
	{10257, "kube-controller-manager"}, {10259, "kube-scheduler"},
}

// kubeVIPPort is for kube-vip's metrics (its --prometheusHTTPServer).
const kubeVIPPort = 2112

// PortOf names the program of a control plane that has a port of its own, and returns "" where
// there is none. Neither an API server nor a load balancer can have such a port.
func PortOf(port int, provider VIPProvider) string {
	for _, l := range listeners {
		if l.port == port {
			return l.of
		}
	}
	if port == kubeVIPPort && provider == VIPKubeVIP {
		return "kube-vip"
	}
	return ""
}

// ports checks that the API server, and a load balancer beside it, can have their ports.
func (v *validator) ports(n *Node) {
	if of := PortOf(int(n.APIServer.Port), n.VIP.Provider); of != "" {
		v.fail("apiServer.port", "is a port of "+of+" on the same machine", "another port, for example 6443")
	}
	if n.Cluster.EndpointMode != EndpointLocal && n.VIP.LoadBalancer == "" {
		return
	}
	_, port, _ := splitEndpoint(n.Cluster.Endpoint)
	if of := PortOf(int(port), n.VIP.Provider); of != "" {
		v.fail("cluster.endpoint", "has a port of "+of+" on the same machine, where the load balancer would listen", "another port, for example 8443")
	}
}

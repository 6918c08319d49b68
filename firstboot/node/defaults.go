// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"time"
)

func def[T comparable](p *T, v T) {
	*p = cmp.Or(*p, v)
}

// DefaultVIPPriority is vip.priority where nobody prefers a machine.
const DefaultVIPPriority = 100

// SetDefaults fills what the document left open. It looks at nothing but the document:
// names, addresses and versions that come from the machine stay empty.
func SetDefaults(n *Node) {
	def(&n.Cluster.Name, "kubernetes")
	def(&n.Cluster.Networking.PodSubnet, "10.244.0.0/16")
	def(&n.Cluster.Networking.ServiceSubnet, "10.96.0.0/12")
	def(&n.Cluster.Networking.DNSDomain, "cluster.local")
	def(&n.Cluster.ProxyMode, ProxyNFTables)
	def(&n.PKI.Mode, PKIGenerate)
	def(&n.PKI.Algorithm, ECDSAP256)
	def(&n.PKI.CAValidity, Duration(87600*time.Hour))
	def(&n.PKI.Validity, Duration(8760*time.Hour))
	def(&n.Join.CAVerification, VerifyPin)
	def(&n.APIServer.Port, 6443)
	def(&n.Network.Provider, NetworkFlannel)
	def(&n.Delivery.Mode, DeliveryVerity)
	def(&n.Delivery.ImageRepository, "registry.k8s.io")
	def(&n.VIP.Provider, VIPNone)
	if n.VIP.Provider == VIPNone {
		def(&n.Cluster.EndpointMode, EndpointDirect)
	} else {
		def(&n.Cluster.EndpointMode, EndpointVIP)
		def(&n.VIP.RouterID, RouterID(n.VIP.Address))
		def(&n.VIP.Priority, DefaultVIPPriority)
		def(&n.VIP.AdvertInterval, Duration(300*time.Millisecond))
		def(&n.VIP.HealthTimeout, Duration(3*time.Second))
		def(&n.VIP.LeaseDuration, Duration(5*time.Second))
	}
	for i := range n.BootstrapTokens {
		if n.BootstrapTokens[i].TTL == nil {
			ttl := Duration(24 * time.Hour)
			n.BootstrapTokens[i].TTL = &ttl
		}
	}
	t := &n.Timeouts
	def(&t.ControlPlaneComponentHealthCheck, Duration(4*time.Minute))
	def(&t.KubeletHealthCheck, Duration(4*time.Minute))
	def(&t.KubernetesAPICall, Duration(4*time.Minute))
	def(&t.EtcdAPICall, Duration(2*time.Minute))
	def(&t.Discovery, Duration(5*time.Minute))
	def(&t.TLSBootstrap, Duration(5*time.Minute))
	def(&t.NodeReady, Duration(10*time.Minute))
	def(&t.ReadinessProbePeriod, Duration(time.Second))
	def(&t.BalancerHealthCheck, max(Duration(5*time.Second), n.VIP.HealthTimeout))
}

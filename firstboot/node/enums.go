// SPDX-License-Identifier: Apache-2.0

package node

// Role says what the machine is. The empty role is invalid.
type Role string

// The roles.
const (
	ControlPlane Role = "control-plane"
	Worker       Role = "worker"
)

// ProxyMode selects kube-proxy's back end. DefaultProxy is what an upstream cluster that says
// nothing runs with; SetDefaults never chooses it.
type ProxyMode string

// The proxy modes.
const (
	ProxyNFTables ProxyMode = "nftables"
	ProxyIPTables ProxyMode = "iptables"
	ProxyIPVS     ProxyMode = "ipvs"
	// ProxyUpstream leaves the mode empty in kube-proxy's configuration.
	ProxyUpstream ProxyMode = "upstream"
)

// PKIMode says where certificate authorities come from.
type PKIMode string

// The PKI modes.
const (
	// PKIGenerate: this machine makes the authorities that are missing.
	PKIGenerate PKIMode = "generate"
	// PKIShared: the authorities and their keys are delivered, the machine makes leaves only.
	PKIShared PKIMode = "shared"
	// PKIExternal: authority certificates and all leaves are delivered, no authority key is.
	PKIExternal PKIMode = "external"
)

// Algorithm is the key algorithm of every key firstboot makes. The names are kubeadm's.
type Algorithm string

// The algorithms.
const (
	ECDSAP256 Algorithm = "ECDSA-P256"
	ECDSAP384 Algorithm = "ECDSA-P384"
	RSA2048   Algorithm = "RSA-2048"
	RSA3072   Algorithm = "RSA-3072"
	RSA4096   Algorithm = "RSA-4096"
)

// PodNetwork selects the pod network firstboot installs.
type PodNetwork string

// The pod networks.
const (
	NetworkFlannel PodNetwork = "flannel"
	// NetworkNone leaves the pod network to the user's manifests.
	NetworkNone PodNetwork = "none"
)

// DeliveryMode says where a component's program comes from.
type DeliveryMode string

// The delivery modes.
const (
	// DeliveryVerity runs the program from the host's verified /usr in the base image.
	DeliveryVerity DeliveryMode = "verity"
	// DeliveryOCI runs the component's upstream image.
	DeliveryOCI DeliveryMode = "oci"
)

// VIPProvider says who carries the virtual address.
type VIPProvider string

// The providers.
const (
	VIPNone       VIPProvider = "none"
	VIPKeepalived VIPProvider = "keepalived"
	VIPKubeVIP    VIPProvider = "kube-vip"
	// VIPExternal: something outside the cluster answers on the address.
	VIPExternal VIPProvider = "external"
)

// EndpointMode says how a machine reaches the API endpoint.
type EndpointMode string

// The endpoint modes.
const (
	// EndpointDirect: cluster.endpoint is reachable as written (address, DNS name or VIP).
	EndpointDirect EndpointMode = "direct"
	// EndpointVIP: the endpoint is carried by vip.
	EndpointVIP EndpointMode = "vip"
	// EndpointLocal: every machine balances over cluster.controlPlanes itself. The
	// endpoint's host is a name that leads to the machine itself.
	EndpointLocal EndpointMode = "local"
)

// CAVerification says what vouches for an authority that a machine does not know yet.
type CAVerification string

// The ways to verify an authority.
const (
	// VerifyPin: one of join.caCertHashes has to match.
	VerifyPin CAVerification = "pin"
	// VerifyToken: the bootstrap token's signature on cluster-info is enough. Whoever has the
	// token could pose as the cluster.
	VerifyToken CAVerification = "token"
)

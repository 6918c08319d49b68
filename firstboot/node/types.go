// SPDX-License-Identifier: Apache-2.0

// Package node defines the node document: the YAML file at /etc/imgbuild/node.yaml that tells
// one machine who it is. It holds the types, their defaults, strict decoding and validation;
// it touches neither the network nor any other file.
package node

// APIVersion and Kind identify the document. Fields may be added within a version; none is
// removed or given another meaning.
const (
	APIVersion = "imgbuild.io/v1alpha1"
	Kind       = "Node"
	// Path is where Ignition puts the document in the real root.
	Path = "/etc/imgbuild/node.yaml"
)

// Node is the document.
type Node struct {
	// APIVersion is "imgbuild.io/v1alpha1".
	APIVersion string `yaml:"apiVersion"`
	// Kind is "Node".
	Kind string `yaml:"kind"`

	Role    Role    `yaml:"role"`
	Cluster Cluster `yaml:"cluster"`
	Node    Machine `yaml:"node,omitempty"`
	// Hosts lets one document serve several machines: the first entry that matches the
	// machine takes the place of Node. A machine that none matches is refused.
	Hosts []Host `yaml:"hosts,omitempty"`
	PKI   PKI    `yaml:"pki,omitempty"`
	// BootstrapTokens are created by control planes and used by machines that join.
	BootstrapTokens []BootstrapToken `yaml:"bootstrapTokens,omitempty"`
	Join            Join             `yaml:"join,omitempty"`
	APIServer       APIServer        `yaml:"apiServer,omitempty"`
	// ControllerManager adjusts the controller managers.
	ControllerManager Component `yaml:"controllerManager,omitempty"`
	// Scheduler adjusts the schedulers.
	Scheduler Component `yaml:"scheduler,omitempty"`
	Etcd      Etcd      `yaml:"etcd,omitempty"`
	Kubelet   Kubelet   `yaml:"kubelet,omitempty"`
	Network   Network   `yaml:"network,omitempty"`
	Delivery  Delivery  `yaml:"delivery,omitempty"`
	VIP       VIP       `yaml:"vip,omitempty"`
	Timeouts  Timeouts  `yaml:"timeouts,omitempty"`
	Callback  Callback  `yaml:"callback,omitempty"`
}

// Cluster is what every machine of the cluster agrees on.
type Cluster struct {
	// Name is the cluster's name; default "kubernetes", as kubeadm names its clusters.
	Name string `yaml:"name,omitempty"`
	// Created is the moment of the cluster's first rendering in RFC 3339, for example
	// 2026-11-21T11:45:14Z. A machine whose clock is before it is not started: its certificates
	// would be valid for nobody else. Empty leaves that to the other moments that preflight knows.
	Created string `yaml:"created,omitempty"`
	// Endpoint is host:port of the API as clients see it. Empty on a single control
	// plane means its own address and port 6443.
	Endpoint     string       `yaml:"endpoint,omitempty"`
	EndpointMode EndpointMode `yaml:"endpointMode,omitempty"`
	// KubernetesVersion ("v1.36.3") is checked against the image; empty takes the image's.
	KubernetesVersion string     `yaml:"kubernetesVersion,omitempty"`
	Networking        Networking `yaml:"networking,omitempty"`
	ProxyMode         ProxyMode  `yaml:"proxyMode,omitempty"`
	// Kubelet is what every node's kubelet starts from, also that of a node which is not made
	// by imgbuild: the cluster's kubelet-config. Default: the document's own kubelet settings,
	// which apply to this machine alone where this key is given.
	Kubelet *Kubelet `yaml:"kubelet,omitempty"`
	// ControlPlanes lists every control plane known when the document was written.
	// With none or one listed, a control plane starts a cluster of its own.
	ControlPlanes []Peer `yaml:"controlPlanes,omitempty"`
	// Founders names those of ControlPlanes that may start the cluster: their etcd members
	// are its first. The others only ever join. Empty means that all of them may.
	Founders []string `yaml:"founders,omitempty"`
}

// NodeBits4 and NodeBits6 are the prefix lengths of a node's part of the pod subnet, the
// controller manager's own.
const (
	NodeBits4 = 24
	NodeBits6 = 64
)

// Networking holds the cluster's address ranges in CIDR notation.
type Networking struct {
	// PodSubnet is divided among the nodes, a /24 each, or a /64 of IPv6.
	PodSubnet string `yaml:"podSubnet,omitempty"`
	// ServiceSubnet holds the addresses of services; its first is the API's.
	ServiceSubnet string `yaml:"serviceSubnet,omitempty"`
	// DNSDomain is the domain of services and pods.
	DNSDomain string `yaml:"dnsDomain,omitempty"`
}

// Peer is another control plane (or this one) by node name and IP address.
type Peer struct {
	// Name is the node name.
	Name string `yaml:"name"`
	// Address is the IP the node advertises.
	Address string `yaml:"address"`
}

// Machine is this machine.
type Machine struct {
	// Name is the node name; empty takes the host name.
	Name string `yaml:"name,omitempty"`
	// Address is the IP the node advertises. Empty takes the first global address of
	// Interface, or of the interface of the default route.
	Address string `yaml:"address,omitempty"`
	// Interface is where the address is looked for.
	Interface string `yaml:"interface,omitempty"`
	// Labels are added to those of the role.
	Labels map[string]string `yaml:"labels,omitempty"`
	// Taints replace the role's own when not nil; an empty list means none.
	Taints *[]Taint `yaml:"taints,omitempty"`
}

// Host is one of several machines that share a document.
type Host struct {
	// Match says which machine this is.
	Match Match `yaml:"match"`
	// Node is used in place of the document's own.
	Node Machine `yaml:"node"`
	// VIPPriority, 2-254, replaces vip.priority when it is not 0.
	VIPPriority int `yaml:"vipPriority,omitempty"`
}

// Match describes a machine by what its hardware says. Everything given has to agree; at
// least one thing has to be given. Letters compare without regard to case.
type Match struct {
	// MAC is the address of one of the machine's network interfaces, with colons.
	MAC string `yaml:"mac,omitempty"`
	// UUID is the product UUID that the firmware reports (DMI product_uuid).
	UUID string `yaml:"uuid,omitempty"`
	// Serial is the product serial number that the firmware reports (DMI product_serial).
	Serial string `yaml:"serial,omitempty"`
}

// Taint is a node taint. Effect is NoSchedule, PreferNoSchedule or NoExecute.
type Taint struct {
	// Key is [prefix/]name, as in a label.
	Key string `yaml:"key"`
	// Value may be empty.
	Value string `yaml:"value,omitempty"`
	// Effect is NoSchedule, PreferNoSchedule or NoExecute.
	Effect string `yaml:"effect"`
}

// PKI says how keys and certificates come to be.
type PKI struct {
	Mode      PKIMode   `yaml:"mode,omitempty"`
	Algorithm Algorithm `yaml:"algorithm,omitempty"`
	// CAValidity is how long authorities last.
	CAValidity Duration `yaml:"caValidity,omitempty"`
	// Validity is how long leaves last, at most as long as the authorities.
	Validity Duration `yaml:"validity,omitempty"`
	// Initiator is the node that makes the authorities in mode generate when there are
	// several control planes; the others join it.
	Initiator string `yaml:"initiator,omitempty"`
	// CertificateKey (64 hexadecimal digits) encrypts the kubeadm-certs secret.
	CertificateKey Secret `yaml:"certificateKey,omitempty"`
	// AdminKey is the public key of the administrator, one PEM block PUBLIC KEY. Control planes
	// publish a certificate for it in ConfigMap kube-public/imgbuild-admin; the private key
	// stays where it was made.
	AdminKey string `yaml:"adminKey,omitempty"`
}

// BootstrapToken is one token, "[a-z0-9]{6}.[a-z0-9]{16}".
type BootstrapToken struct {
	// Token is id and secret, with a dot between them.
	Token Secret `yaml:"token"`
	// Description says what the token is for.
	Description string `yaml:"description,omitempty"`
	// TTL counts from first boot; default 24h. "0s" in the document never expires.
	TTL *Duration `yaml:"ttl,omitempty"`
}

// Join says how a machine finds a running cluster.
type Join struct {
	// CACertHashes pin the cluster's authority: "sha256:" and the hexadecimal SHA-256 of
	// its SubjectPublicKeyInfo.
	CACertHashes []string `yaml:"caCertHashes,omitempty"`
	// CAVerification says what vouches for the authority of the cluster that is joined.
	CAVerification CAVerification `yaml:"caVerification,omitempty"`
	// Renew makes control planes keep the tokens of this document, and with pki.mode
	// generate the kubeadm-certs secret, usable beyond their lifetime, so that machines can
	// join at any time.
	Renew bool `yaml:"renew,omitempty"`
}

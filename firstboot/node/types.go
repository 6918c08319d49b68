// SPDX-License-Identifier: Apache-2.0

// Package node defines the node document: the YAML file at /etc/imgbuild/node.yaml that tells
// one machine who it is. It holds the types, their defaults, strict decoding and validation;
// it touches neither the network nor any other file.
package node

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// APIVersion and Kind identify the document. Fields may be added within a version; none is
// removed or given another meaning.
const (
	APIVersion = "imgbuild.io/v1alpha1"
	Kind       = "Node"
	// Path is where Ignition puts the document in the real root.
	Path = "/etc/imgbuild/node.yaml"
)

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

// Secret is a string that formats as "[redacted]" with every fmt verb and in JSON. YAML
// keeps the value, because the document itself is where it lives.
type Secret string

const redacted = "[redacted]"

// String implements fmt.Stringer.
func (Secret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return redacted }

// Format implements fmt.Formatter so that no verb reaches the value.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalJSON implements json.Marshaler.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Reveal returns the value, for the one place that must use it.
func (s Secret) Reveal() string { return string(s) }

// Duration is a time.Duration written as Go writes it ("90s", "8760h").
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return errors.New("is not a duration; write for example 90s, 5m or 8760h")
	}
	*d = Duration(v)
	return nil
}

// D returns the duration as the standard library's type.
func (d Duration) D() time.Duration { return time.Duration(d) }

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
	Etcd            Etcd             `yaml:"etcd,omitempty"`
	Kubelet         Kubelet          `yaml:"kubelet,omitempty"`
	Network         Network          `yaml:"network,omitempty"`
	Delivery        Delivery         `yaml:"delivery,omitempty"`
	VIP             VIP              `yaml:"vip,omitempty"`
	Timeouts        Timeouts         `yaml:"timeouts,omitempty"`
	Callback        Callback         `yaml:"callback,omitempty"`
}

// Cluster is what every machine of the cluster agrees on.
type Cluster struct {
	// Name is the cluster's name; default "kubernetes", as kubeadm names its clusters.
	Name string `yaml:"name,omitempty"`
	// Endpoint is host:port of the API as clients see it. Empty on a single control
	// plane means its own address and port 6443.
	Endpoint     string       `yaml:"endpoint,omitempty"`
	EndpointMode EndpointMode `yaml:"endpointMode,omitempty"`
	// KubernetesVersion ("v1.36.3") is checked against the image; empty takes the image's.
	KubernetesVersion string     `yaml:"kubernetesVersion,omitempty"`
	Networking        Networking `yaml:"networking,omitempty"`
	ProxyMode         ProxyMode  `yaml:"proxyMode,omitempty"`
	// ControlPlanes lists every control plane known when the document was written.
	// With none or one listed, a control plane starts a cluster of its own.
	ControlPlanes []Peer `yaml:"controlPlanes,omitempty"`
	// Founders names those of ControlPlanes that may start the cluster: their etcd members
	// are its first. The others only ever join. Empty means that all of them may.
	Founders []string `yaml:"founders,omitempty"`
}

// Members returns the control planes whose etcd members start the cluster.
func (c Cluster) Members() []Peer {
	if len(c.Founders) == 0 {
		return c.ControlPlanes
	}
	var out []Peer
	for _, p := range c.ControlPlanes {
		if slices.Contains(c.Founders, p.Name) {
			out = append(out, p)
		}
	}
	return out
}

// KnownControlPlanes returns every control plane the document names: those of
// cluster.controlPlanes, and in a document that several control planes share its hosts. A
// host whose address the document leaves to DHCP has an empty one.
func (n *Node) KnownControlPlanes() []Peer {
	out := slices.Clone(n.Cluster.ControlPlanes)
	if n.Role != ControlPlane {
		return out
	}
	for _, h := range n.Hosts {
		p := Peer{Name: h.Node.Name, Address: h.Node.Address}
		if !slices.Contains(out, p) && (p.Address != "" || !slices.ContainsFunc(out, func(o Peer) bool { return o.Name == p.Name })) {
			out = append(out, p)
		}
	}
	return out
}

// Networking holds the cluster's address ranges in CIDR notation.
type Networking struct {
	// PodSubnet is divided among the nodes, a /24 each.
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
	// VIPPriority replaces vip.priority when it is not 0.
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

// APIServer adjusts the API server.
type APIServer struct {
	// Port is the secure port of the local API server; default 6443.
	Port int32 `yaml:"port,omitempty"`
	// CertSANs are extra names and addresses for its certificate.
	CertSANs []string `yaml:"certSANs,omitempty"`
	// ExtraArgs are flags by name, without dashes; they replace those of the same name.
	ExtraArgs map[string]string `yaml:"extraArgs,omitempty"`
}

// Etcd adjusts the local etcd member. Zero durations leave etcd's own default.
type Etcd struct {
	// HeartbeatInterval is how often the leader says that it lives, 1ms to 10s.
	HeartbeatInterval Duration `yaml:"heartbeatInterval,omitempty"`
	// ElectionTimeout is at least five heartbeats.
	ElectionTimeout Duration `yaml:"electionTimeout,omitempty"`
	// ServerCertSANs are extra names and addresses for the certificate clients see.
	ServerCertSANs []string `yaml:"serverCertSANs,omitempty"`
	// PeerCertSANs are extra names and addresses for the certificate other members see.
	PeerCertSANs []string `yaml:"peerCertSANs,omitempty"`
	// ExtraArgs are flags by name, without dashes; they replace those of the same name.
	ExtraArgs map[string]string `yaml:"extraArgs,omitempty"`
}

// Kubelet adjusts the kubelet; every field is optional. SystemReserved, KubeReserved,
// EvictionHard and EvictionSoft map a resource or signal to a quantity or percentage.
type Kubelet struct {
	// MaxPods is how many pods the node takes; 0 leaves the kubelet's default.
	MaxPods int32 `yaml:"maxPods,omitempty"`
	// SystemReserved is kept for the host's services.
	SystemReserved map[string]string `yaml:"systemReserved,omitempty"`
	// KubeReserved is kept for the kubelet and the container runtime.
	KubeReserved map[string]string `yaml:"kubeReserved,omitempty"`
	// EvictionHard are thresholds at which pods are evicted at once. Signals that it does not
	// name keep the kubelet's default.
	EvictionHard map[string]string `yaml:"evictionHard,omitempty"`
	// EvictionSoft are thresholds that may be crossed for a grace period.
	EvictionSoft map[string]string `yaml:"evictionSoft,omitempty"`
	// EvictionSoftGracePeriod is that period for each signal of EvictionSoft.
	EvictionSoftGracePeriod map[string]Duration `yaml:"evictionSoftGracePeriod,omitempty"`
	// ResolvConf is the resolver file handed to pods; empty takes what the host uses.
	ResolvConf string `yaml:"resolvConf,omitempty"`
}

// Network is the pod network.
type Network struct {
	Provider PodNetwork `yaml:"provider,omitempty"`
	// MTU of the pod network; 0 lets flannel derive it from the uplink.
	MTU int `yaml:"mtu,omitempty"`
	// Interface carries the overlay; empty takes that of the node address.
	Interface string `yaml:"interface,omitempty"`
	// Manifests are files on control planes whose objects are applied with the add-ons, in
	// this order: the pod network of a cluster with provider none, for example.
	Manifests []string `yaml:"manifests,omitempty"`
}

// Delivery says where programs run from.
type Delivery struct {
	Mode DeliveryMode `yaml:"mode,omitempty"`
	// Components overrides Mode for one component: etcd, kube-apiserver,
	// kube-controller-manager, kube-scheduler, kube-proxy, coredns, flannel.
	Components map[string]DeliveryMode `yaml:"components,omitempty"`
	// ImageRepository replaces registry.k8s.io for components delivered as images.
	ImageRepository string `yaml:"imageRepository,omitempty"`
	// Images replaces the image reference of single components delivered as images.
	Images map[string]string `yaml:"images,omitempty"`
	// ForeignImages names, for kube-proxy and flannel, the image that runs on nodes whose
	// host has no programs of ours.
	ForeignImages map[string]string `yaml:"foreignImages,omitempty"`
}

// For returns how a component is delivered.
func (d Delivery) For(component string) DeliveryMode {
	if m, ok := d.Components[component]; ok {
		return m
	}
	return d.Mode
}

// VIP is the virtual address of the control plane.
type VIP struct {
	Provider VIPProvider `yaml:"provider,omitempty"`
	// Address is an IP without prefix length.
	Address string `yaml:"address,omitempty"`
	// Interface carries the address; empty takes that of the node address.
	Interface string `yaml:"interface,omitempty"`
	// RouterID is the VRRP router id, 1-255; 0 derives it from the address.
	RouterID int `yaml:"routerID,omitempty"`
	// Priority is this machine's in the election, 2-254; the highest owns the address.
	// With equal priorities an owner stays owner as long as it is healthy.
	Priority int `yaml:"priority,omitempty"`
	// AdvertInterval is how often the owner says that it lives, in steps of 10ms. Another
	// machine takes over when it hears nothing for 3 to 4 of them.
	AdvertInterval Duration `yaml:"advertInterval,omitempty"`
	// Password is for providers that authenticate their adverts; none of them does.
	Password Secret `yaml:"password,omitempty"`
	// Image is the kube-vip image, pinned by digest; that provider has no default.
	Image string `yaml:"image,omitempty"`
	// LoadBalancer is "" or "haproxy": with it the owner of the address balances over all
	// API servers. It listens on the port of cluster.endpoint.
	LoadBalancer string `yaml:"loadBalancer,omitempty"`
}

// Timeouts bound the waits. They carry kubeadm's names where kubeadm has one.
type Timeouts struct {
	// ControlPlaneComponentHealthCheck bounds the wait for healthy components.
	ControlPlaneComponentHealthCheck Duration `yaml:"controlPlaneComponentHealthCheck,omitempty"`
	// KubeletHealthCheck bounds the wait for a healthy kubelet.
	KubeletHealthCheck Duration `yaml:"kubeletHealthCheck,omitempty"`
	// KubernetesAPICall bounds the wait for the API and for writes to it.
	KubernetesAPICall Duration `yaml:"kubernetesAPICall,omitempty"`
	// EtcdAPICall bounds calls to etcd while a member is added.
	EtcdAPICall Duration `yaml:"etcdAPICall,omitempty"`
	// Discovery bounds the search for a running cluster.
	Discovery Duration `yaml:"discovery,omitempty"`
	// TLSBootstrap bounds the wait for the kubelet's first certificate.
	TLSBootstrap Duration `yaml:"tlsBootstrap,omitempty"`
	// NodeReady bounds the wait from kubelet start to a Ready node.
	NodeReady Duration `yaml:"nodeReady,omitempty"`
}

// Callback receives every phase transition as a JSON POST.
type Callback struct {
	// URL is http or https; empty means no callback.
	URL string `yaml:"url,omitempty"`
	// CA is PEM text that https is verified against, in place of the host's authorities.
	CA string `yaml:"ca,omitempty"`
	// Token, when set, is sent as a bearer token.
	Token Secret `yaml:"token,omitempty"`
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

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
		def(&n.VIP.Priority, 100)
		def(&n.VIP.AdvertInterval, Duration(300*time.Millisecond))
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
}

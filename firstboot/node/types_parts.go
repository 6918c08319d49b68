// SPDX-License-Identifier: Apache-2.0

package node

// APIServer adjusts the API server.
type APIServer struct {
	// Port is the secure port of the local API server; default 6443.
	Port int32 `yaml:"port,omitempty"`
	// CertSANs are extra names and addresses for its certificate.
	CertSANs []string `yaml:"certSANs,omitempty"`
	// ExtraArgs are flags by name, without dashes; they replace those of the same name.
	ExtraArgs map[string]string `yaml:"extraArgs,omitempty"`
}

// Component adjusts a client of the API server.
type Component struct {
	// ExtraArgs are flags by name, without dashes; they replace those of the same name.
	ExtraArgs map[string]string `yaml:"extraArgs,omitempty"`
}

// Etcd adjusts the local etcd member. Zero durations leave etcd's own default.
type Etcd struct {
	// HeartbeatInterval is how often the leader says that it lives, 1ms to 10s; etcd's default
	// is 100ms.
	HeartbeatInterval Duration `yaml:"heartbeatInterval,omitempty"`
	// ElectionTimeout is at least five heartbeats; etcd's default is 1s.
	ElectionTimeout Duration `yaml:"electionTimeout,omitempty"`
	// CPURequest is the CPU request of its pod, and with it its share of a machine whose
	// processors are all busy; empty is kubeadm's 100m.
	CPURequest string `yaml:"cpuRequest,omitempty"`
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
	// Interface carries the overlay; empty takes that of the node address. It is named only
	// where it is another one, on every node, and not vip.interface.
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
	// Images replaces the image reference of single components delivered as images. Flannel
	// has none of its own.
	Images map[string]string `yaml:"images,omitempty"`
	// ForeignImages names, for kube-proxy and flannel, the image that runs on nodes whose
	// host has no programs of ours, whatever ours run.
	ForeignImages map[string]string `yaml:"foreignImages,omitempty"`
}

// VIP is the virtual address of the control plane.
type VIP struct {
	Provider VIPProvider `yaml:"provider,omitempty"`
	// Address is an IP without prefix length.
	Address string `yaml:"address,omitempty"`
	// Interface carries the address; empty takes that of the node address. The election goes
	// by the node addresses either way.
	Interface string `yaml:"interface,omitempty"`
	// RouterID is the VRRP router id, 1-255; 0 derives it from the address.
	RouterID int `yaml:"routerID,omitempty"`
	// Priority is this machine's in the election, 2-254; the highest owns the address.
	// With equal priorities an owner stays owner as long as it is healthy. Default 100.
	Priority int `yaml:"priority,omitempty"`
	// AdvertInterval is how often the owner says that it lives, in steps of 10ms. Another
	// machine takes over when it hears nothing for 3 to 4 of them.
	AdvertInterval Duration `yaml:"advertInterval,omitempty"`
	// HealthTimeout is how long the API server of this machine may take to say that it is alive,
	// 100ms to 30s. An owner of the address that fails to do so twice in a row gives it to one
	// whose API server does.
	HealthTimeout Duration `yaml:"healthTimeout,omitempty"`
	// LeaseDuration is how long another machine waits, when kube-vip's owner renews its lease no
	// more, before it takes the address: whole seconds, 5s to 2m. An owner tries to renew it every
	// fifth of that, and gives the address away when it did not succeed for three fifths.
	LeaseDuration Duration `yaml:"leaseDuration,omitempty"`
	// Password is for providers that authenticate their adverts; none of them does.
	Password Secret `yaml:"password,omitempty"`
	// Image is the kube-vip image, pinned by digest; that provider has no default.
	Image string `yaml:"image,omitempty"`
	// LoadBalancer is "" or "haproxy": with it the owner of the address balances over all
	// API servers. It listens on the port of cluster.endpoint.
	LoadBalancer string `yaml:"loadBalancer,omitempty"`
}

// Timeouts bound the waits, and say how often readiness is asked for. They carry kubeadm's names
// where kubeadm has one.
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
	// ReadinessProbePeriod is how often the kubelet asks the API server, the scheduler and etcd
	// whether they are ready, whole seconds from 1s to 1m. Each time costs a TLS handshake, and
	// etcd a read that its members agree on.
	ReadinessProbePeriod Duration `yaml:"readinessProbePeriod,omitempty"`
	// BalancerHealthCheck is how often a load balancer on a node asks each API server whether it is
	// ready, and how long that may take, 1s to 1m; at least vip.healthTimeout unless given. A server
	// that fails twice in a row loses its connections, and gets no more while another one is ready.
	BalancerHealthCheck Duration `yaml:"balancerHealthCheck,omitempty"`
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

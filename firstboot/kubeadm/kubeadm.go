// SPDX-License-Identifier: Apache-2.0

// Package kubeadm holds what the packages that produce a node's files and a cluster's objects
// have in common: the resolved configuration they all start from, and the names and paths that
// kubeadm v1.36 uses and that stock kubeadm expects to find again. It decides nothing and
// performs no I/O except WriteFiles.
package kubeadm

// Paths on the node. They are kubeadm's and not configurable, because later kubeadm commands,
// the kubelet unit and the static pods all agree on them.
const (
	Dir           = "/etc/kubernetes"
	PKIDir        = Dir + "/pki"
	ManifestsDir  = Dir + "/manifests"
	EtcdDataDir   = "/var/lib/etcd"
	KubeletDir    = "/var/lib/kubelet"
	KubeletPEM    = KubeletDir + "/pki/kubelet-client-current.pem"
	BootstrapConf = Dir + "/bootstrap-kubelet.conf"
	CRISocket     = "unix:///run/containerd/containerd.sock"
)

// Ports of the control plane that do not change.
const (
	EtcdClientPort        = 2379
	EtcdPeerPort          = 2380
	EtcdMetricsPort       = 2381
	ControllerManagerPort = 10257
	SchedulerPort         = 10259
	KubeletHealthPort     = 10248
)

// Groups, labels and annotations that are contracts between nodes, kubeadm and the cluster.
const (
	BootstrapGroup      = "system:bootstrappers:kubeadm:default-node-token"
	NodesGroup          = "system:nodes"
	ClusterAdminsGroup  = "kubeadm:cluster-admins"
	SystemMasters       = "system:masters"
	ControlPlaneLabel   = "node-role.kubernetes.io/control-plane"
	ExcludeLBLabel      = "node.kubernetes.io/exclude-from-external-load-balancers"
	ControlPlaneTaint   = "node-role.kubernetes.io/control-plane"
	ConfigHash          = "kubeadm.kubernetes.io/component-config.hash"
	EtcdURLAnnotation   = "kubeadm.kubernetes.io/etcd.advertise-client-urls"
	APIServerAnnotation = "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"

	// DeliveryLabel marks nodes whose /usr carries the cluster's programs. Add-ons that run
	// from the host's /usr select it; firstboot sets it when the kubelet registers.
	DeliveryLabel = "imgbuild.io/delivery"
)

// Versions of the images that kubeadm v1.36.3 would pull, for components delivered as images.
const (
	DefaultRepository = "registry.k8s.io"
	EtcdImageTag      = "3.6.8-0"
	CoreDNSImageTag   = "v1.14.2"
	PauseImageTag     = "3.10.2"
)

// The components that have a delivery of their own.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Proxy             = "kube-proxy"
	CoreDNS           = "coredns"
	Flannel           = "flannel"
)

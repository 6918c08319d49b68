// SPDX-License-Identifier: Apache-2.0

// Package cluster turns one file, cluster.yaml, into what the machines of a cluster are given:
// authorities and tokens, an Ignition config per host, and a kubeconfig for the administrator.
// It holds the types of that file (types.go), its strict reader and checks, and Render, which
// is idempotent: it keeps every secret it finds and says what it changed.
package cluster

import (
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// APIVersion and Kind identify cluster.yaml.
const (
	APIVersion = node.APIVersion
	Kind       = "Cluster"
)

// Cluster is cluster.yaml. Names of files in it are relative to its own directory.
type Cluster struct {
	// APIVersion is "imgbuild.io/v1alpha1".
	APIVersion string `yaml:"apiVersion"`
	// Kind is "Cluster".
	Kind string `yaml:"kind"`
	// Name is the cluster's name: lower-case letters, digits and dashes.
	Name string `yaml:"name"`
	// KubernetesVersion ("v1.36.3") is checked against the image; empty takes the image's.
	KubernetesVersion string `yaml:"kubernetesVersion,omitempty"`

	Endpoint    Endpoint    `yaml:"endpoint,omitempty"`
	VIP         VIP         `yaml:"vip,omitempty"`
	Networking  Networking  `yaml:"networking,omitempty"`
	PodNetwork  PodNetwork  `yaml:"podNetwork,omitempty"`
	HostNetwork HostNetwork `yaml:"hostNetwork,omitempty"`
	PKI         PKI         `yaml:"pki,omitempty"`
	Join        Join        `yaml:"join,omitempty"`
	APIServer   APIServer   `yaml:"apiServer,omitempty"`
	// ControllerManager adjusts the controller managers.
	ControllerManager node.Component `yaml:"controllerManager,omitempty"`
	// Scheduler adjusts the schedulers.
	Scheduler node.Component `yaml:"scheduler,omitempty"`
	Etcd      Etcd           `yaml:"etcd,omitempty"`
	// Kubelet is what every host's kubelet starts from.
	Kubelet node.Kubelet `yaml:"kubelet,omitempty"`
	// Timeouts bound the waits of first boot.
	Timeouts node.Timeouts `yaml:"timeouts,omitempty"`
	Callback Callback      `yaml:"callback,omitempty"`
	// TimeServers replace the image's.
	TimeServers []string `yaml:"timeServers,omitempty"`
	// Registries say where images of registries are pulled from, each at most once.
	Registries []Registry `yaml:"registries,omitempty"`
	// Delivery says where programs run from, and which images are for nodes that are not
	// made by imgbuild.
	Delivery node.Delivery `yaml:"delivery,omitempty"`
	// Butane are files with snippets for every host.
	Butane []string `yaml:"butane,omitempty"`
	Roles  Roles    `yaml:"roles,omitempty"`
	// Platform is where the hosts run, as Ignition names platforms; default "metal".
	Platform string   `yaml:"platform,omitempty"`
	UserData UserData `yaml:"userData,omitempty"`
	Hosts    []Host   `yaml:"hosts"`
}

// Endpoint is the Kubernetes API as clients see it.
type Endpoint struct {
	// Mode is vip (a virtual address), local (a load balancer on every host) or direct (the
	// name or the only control plane's address). Default: vip when vip has a provider, local
	// with several control planes, else direct.
	Mode node.EndpointMode `yaml:"mode,omitempty"`
	// Name is a DNS name. Every host resolves it without DNS in modes vip and local. Default:
	// none, so that the API is known by its address; in mode local api.NAME.internal.
	Name string `yaml:"name,omitempty"`
	// Port is where the API is reached: default 6443, 7443 in mode local and 8443 with
	// vip.loadBalancer, where it has to differ from apiServer.port.
	Port int `yaml:"port,omitempty"`
}

// VIP is the virtual address of the control plane.
type VIP struct {
	// Provider is keepalived, kube-vip, external or none (the default).
	Provider node.VIPProvider `yaml:"provider,omitempty"`
	// Address is an IP address that no host has, in the control planes' subnet.
	Address string `yaml:"address,omitempty"`
	// Interface carries the address; auto (the default) takes that of the node address.
	Interface string `yaml:"interface,omitempty"`
	// RouterID is the VRRP router id, 1-255; by default it follows from the address. Clusters
	// on one segment need different ones.
	RouterID int `yaml:"routerID,omitempty"`
	// AdvertInterval is how often the owner says that it lives, in steps of 10ms; default
	// 300ms. Another takes over after 3 to 4 of them.
	AdvertInterval node.Duration `yaml:"advertInterval,omitempty"`
	// HealthTimeout is how long an API server may take to say that it is alive, 100ms to 30s;
	// default 3s. An owner whose API server fails to do so twice in a row gives the address away.
	HealthTimeout node.Duration `yaml:"healthTimeout,omitempty"`
	// LeaseDuration is how long another control plane waits for kube-vip's owner before it takes
	// the address, whole seconds, 5s to 2m; default 5s.
	LeaseDuration node.Duration `yaml:"leaseDuration,omitempty"`
	// Image is the kube-vip image, pinned by digest.
	Image string `yaml:"image,omitempty"`
	// LoadBalancer is "" or "haproxy": the owner balances over all API servers; for
	// keepalived.
	LoadBalancer string `yaml:"loadBalancer,omitempty"`
}

// PKI says how authorities and certificates come to be.
type PKI struct {
	// Mode is shared (the default: authorities are made here and every control plane gets
	// their keys), generate (one control plane makes them, the keys travel encrypted) or
	// external (requests are written here, certificates are put beside them).
	Mode node.PKIMode `yaml:"mode,omitempty"`
	// Algorithm of all keys; default ECDSA-P256.
	Algorithm node.Algorithm `yaml:"algorithm,omitempty"`
	// CAValidity is how long authorities last; default 87600h.
	CAValidity node.Duration `yaml:"caValidity,omitempty"`
	// Validity is how long other certificates last; default 8760h.
	Validity node.Duration `yaml:"validity,omitempty"`
	// Initiator is the control plane that makes the authorities in mode generate; default
	// the first.
	Initiator string `yaml:"initiator,omitempty"`
}

// Join is about machines that join later.
type Join struct {
	// TokenTTL is how long bootstrap tokens last, at least 1m; default 24h.
	TokenTTL *node.Duration `yaml:"tokenTTL,omitempty"`
	// Renew makes the control planes keep tokens and encrypted keys usable; default true.
	Renew *bool `yaml:"renew,omitempty"`
}

// APIServer adjusts the API servers.
type APIServer struct {
	// Port every API server listens on; default 6443.
	Port int `yaml:"port,omitempty"`
	// CertSANs are extra names and addresses for their certificates.
	CertSANs []string `yaml:"certSANs,omitempty"`
	// ExtraArgs are flags by name, without dashes.
	ExtraArgs map[string]string `yaml:"extraArgs,omitempty"`
}

// Etcd adjusts etcd. Slow machines need longer intervals.
type Etcd struct {
	// HeartbeatInterval is how often the leader says that it lives, 1ms to 10s.
	HeartbeatInterval node.Duration `yaml:"heartbeatInterval,omitempty"`
	// ElectionTimeout is at least five heartbeats.
	ElectionTimeout node.Duration `yaml:"electionTimeout,omitempty"`
	// CPURequest is the CPU request of its pods, and with it their share of a machine whose
	// processors are all busy; empty is kubeadm's 100m.
	CPURequest string `yaml:"cpuRequest,omitempty"`
	// ExtraArgs are flags by name, without dashes.
	ExtraArgs map[string]string `yaml:"extraArgs,omitempty"`
}

// Callback receives every phase of every host.
type Callback struct {
	// URL is http or https; empty means none.
	URL string `yaml:"url,omitempty"`
	// CAFile holds PEM text that https is verified against.
	CAFile string `yaml:"caFile,omitempty"`
	// TokenFile holds a bearer token.
	TokenFile string `yaml:"tokenFile,omitempty"`
}

// Registry says where images of one registry are pulled from.
type Registry struct {
	// Host is the registry as image names have it, with its port if they do; "*" is every
	// registry that has no entry.
	Host string `yaml:"host"`
	// Mirrors are tried in order.
	Mirrors []Mirror `yaml:"mirrors"`
	// Fallback tries the registry itself after all mirrors; default true.
	Fallback *bool `yaml:"fallback,omitempty"`
}

// Mirror is one place that serves a registry's images.
type Mirror struct {
	// URL is http or https, host, and optionally a path.
	URL string `yaml:"url"`
	// OverridePath says that the URL's path replaces /v2.
	OverridePath bool `yaml:"overridePath,omitempty"`
	// CAFile holds PEM text that https is verified against.
	CAFile string `yaml:"caFile,omitempty"`
	// CredentialsFile holds one line, USER:PASSWORD.
	CredentialsFile string `yaml:"credentialsFile,omitempty"`
}

// Roles hold what all hosts of one role have in common.
type Roles struct {
	// ControlPlane is for hosts with role control-plane.
	ControlPlane RoleSettings `yaml:"controlPlane,omitempty"`
	// Worker is for hosts with role worker.
	Worker RoleSettings `yaml:"worker,omitempty"`
}

// RoleSettings add to those of the cluster; a host's own add to these.
type RoleSettings struct {
	// Labels of the nodes.
	Labels map[string]string `yaml:"labels,omitempty"`
	// Taints replace the role's own; an empty list means none.
	Taints *[]node.Taint `yaml:"taints,omitempty"`
	// Kubelet replaces single values of the cluster's.
	Kubelet node.Kubelet `yaml:"kubelet,omitempty"`
	// Butane are files with snippets.
	Butane []string `yaml:"butane,omitempty"`
}

// UserData says what may be delivered through a cloud's user data.
type UserData struct {
	// Secrets is refuse (the default), tokens (bootstrap tokens, the callback's, credentials
	// of mirrors), or all, which includes private keys and what decrypts them: a control plane
	// needs all. Whoever reaches the cloud's metadata service, often every pod, can read user
	// data.
	Secrets string `yaml:"secrets,omitempty"`
}

// Host is one machine.
type Host struct {
	// Name is its host name and node name.
	Name string `yaml:"name"`
	// Role is control-plane or worker.
	Role node.Role `yaml:"role"`
	// Address is the IP address of the node, without prefix length. With DHCP it is the one
	// that the DHCP server always gives; several control planes need one each.
	Address string `yaml:"address,omitempty"`
	// Match says which machine this is, by what its hardware tells.
	Match node.Match `yaml:"match,omitempty"`
	// Network replaces single values of hostNetwork.
	Network HostNetwork `yaml:"network,omitempty"`
	// Labels add to those of the role.
	Labels map[string]string `yaml:"labels,omitempty"`
	// Taints replace those of the role.
	Taints *[]node.Taint `yaml:"taints,omitempty"`
	// Kubelet replaces single values of the role's.
	Kubelet node.Kubelet `yaml:"kubelet,omitempty"`
	// Butane are files with snippets that add to those of the role.
	Butane []string `yaml:"butane,omitempty"`
	// VIPPriority in the election, 2-254; the highest owns the address. By default all are
	// the same, and whoever owns the address keeps it.
	VIPPriority int `yaml:"vipPriority,omitempty"`
	// Platform replaces the cluster's.
	Platform string `yaml:"platform,omitempty"`
}

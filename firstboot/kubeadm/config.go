// SPDX-License-Identifier: Apache-2.0

package kubeadm

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

// Config is everything about the cluster and this machine, after names, addresses and versions
// that the node document left to the machine were found. All generators are functions of it.
type Config struct {
	Role     node.Role
	NodeName string
	// Hostname is what the kernel says; it differs from NodeName only on purpose.
	Hostname string
	Address  netip.Addr
	// AddressPinned says that the document named the address, so the kubelet must use it.
	AddressPinned bool

	ClusterName       string
	KubernetesVersion string // "v1.36.3"
	EndpointHost      string
	EndpointPort      int32
	// EndpointSet is false when the endpoint is only this machine's own address.
	EndpointSet bool
	APIPort     int32
	VIP         netip.Addr // zero without a virtual address

	PodSubnet     netip.Prefix
	ServiceSubnet netip.Prefix
	DNSDomain     string
	ProxyMode     node.ProxyMode

	Algorithm            node.Algorithm
	CAValidity, Validity time.Duration
	PKIMode              node.PKIMode

	APIServerSANs, EtcdServerSANs, EtcdPeerSANs []string
	// Args are flags of each component that replace or follow those of kubeadm.
	Args map[string]map[string]string

	// EtcdMembers is the initial cluster, this machine included; nil means only this one.
	EtcdMembers []node.Peer
	// EtcdExisting makes etcd join a running cluster instead of starting one.
	EtcdExisting                bool
	EtcdHeartbeat, EtcdElection time.Duration
	// EtcdCPU is the CPU request of etcd's pod, a quantity.
	EtcdCPU string
	// ControlPlanes are all that the document names, this machine perhaps included.
	ControlPlanes                    []node.Peer
	ControlPlaneComponentHealthCheck time.Duration
	// ReadinessProbePeriod is that of the static pods' readiness probes, whole seconds.
	ReadinessProbePeriod time.Duration
	Kubelet              node.Kubelet
	// SharedKubelet is what the cluster's kubelet-config says; Kubelet is this machine's.
	SharedKubelet    node.Kubelet
	Labels           map[string]string
	Taints           *[]node.Taint
	Delivery         node.Delivery
	Network          node.Network
	ExtraCADirs      []string // of the well-known host CA directories, those that exist
	UploadResolvConf string   // resolver file for every kubelet, or ""
	ExternalCA       bool     // ca.crt without ca.key
	Tokens           []Token
}

// Token is a bootstrap token with its expiry fixed. A zero Expiration never expires.
type Token struct {
	ID          string
	Secret      node.Secret
	Description string
	Expiration  time.Time
}

// Host is what firstboot finds out about the machine.
type Host struct {
	Hostname          string
	Address           netip.Addr
	KubernetesVersion string
	ExtraCADirs       []string
	UploadResolvConf  string
	ExternalCA        bool
	Now               time.Time
}

// New resolves a validated, defaulted document against the machine. It reports every value
// that cannot be used, naming the document's field.
func New(n *node.Node, h Host) (*Config, error) {
	var errs []error
	bad := func(field, value, want string) {
		errs = append(errs, fmt.Errorf("%s: %q is not %s", field, value, want))
	}
	prefix := func(field, value string) netip.Prefix {
		p, err := netip.ParsePrefix(value)
		if err != nil {
			bad(field, value, "an address range such as 10.96.0.0/12")
		}
		return p.Masked()
	}
	c := &Config{
		Role: n.Role, Hostname: strings.ToLower(strings.TrimSpace(h.Hostname)),
		Address: h.Address, ClusterName: n.Cluster.Name,
		KubernetesVersion: n.Cluster.KubernetesVersion, APIPort: n.APIServer.Port,
		PodSubnet:     prefix("cluster.networking.podSubnet", n.Cluster.Networking.PodSubnet),
		ServiceSubnet: prefix("cluster.networking.serviceSubnet", n.Cluster.Networking.ServiceSubnet),
		DNSDomain:     n.Cluster.Networking.DNSDomain, ProxyMode: n.Cluster.ProxyMode,
		Algorithm: n.PKI.Algorithm, CAValidity: n.PKI.CAValidity.D(), Validity: n.PKI.Validity.D(), PKIMode: n.PKI.Mode,
		APIServerSANs: n.APIServer.CertSANs, EtcdServerSANs: n.Etcd.ServerCertSANs, EtcdPeerSANs: n.Etcd.PeerCertSANs,
		Args: map[string]map[string]string{
			APIServer: n.APIServer.ExtraArgs, ControllerManager: n.ControllerManager.ExtraArgs,
			Scheduler: n.Scheduler.ExtraArgs, Etcd: n.Etcd.ExtraArgs,
		},
		EtcdHeartbeat: n.Etcd.HeartbeatInterval.D(), EtcdElection: n.Etcd.ElectionTimeout.D(), EtcdCPU: cmp.Or(n.Etcd.CPURequest, "100m"),
		ControlPlanes:                    n.KnownControlPlanes(),
		ControlPlaneComponentHealthCheck: n.Timeouts.ControlPlaneComponentHealthCheck.D(),
		ReadinessProbePeriod:             n.Timeouts.ReadinessProbePeriod.D(),
		Kubelet:                          n.Kubelet, SharedKubelet: *cmp.Or(n.Cluster.Kubelet, &n.Kubelet), Labels: n.Node.Labels, Taints: n.Node.Taints,
		Delivery: n.Delivery, Network: n.Network,
		ExtraCADirs: h.ExtraCADirs, UploadResolvConf: h.UploadResolvConf, ExternalCA: h.ExternalCA,
	}
	if c.NodeName = strings.ToLower(strings.TrimSpace(n.Node.Name)); c.NodeName == "" {
		c.NodeName = c.Hostname
	}
	if c.NodeName == "" {
		errs = append(errs, errors.New("node.name: empty, and the machine has no host name; set one of them"))
	}
	if n.Node.Address != "" {
		a, err := netip.ParseAddr(n.Node.Address)
		if err != nil {
			bad("node.address", n.Node.Address, "an IP address")
		}
		c.Address, c.AddressPinned = a, true
	}
	c.Address = c.Address.Unmap()
	if !c.Address.IsValid() && len(errs) == 0 {
		errs = append(errs, errors.New("node.address: empty, and no address was found on the interface of the default route; set node.address or node.interface"))
	}
	if c.KubernetesVersion == "" {
		c.KubernetesVersion = h.KubernetesVersion
	}
	if n.VIP.Provider != node.VIPNone && n.VIP.Address != "" {
		v, err := netip.ParseAddr(n.VIP.Address)
		if err != nil {
			bad("vip.address", n.VIP.Address, "an IP address")
		}
		c.VIP = v
	}
	if n.Cluster.Endpoint == "" {
		c.EndpointHost, c.EndpointPort = c.Address.String(), c.APIPort
	} else if host, port, err := net.SplitHostPort(n.Cluster.Endpoint); err != nil {
		bad("cluster.endpoint", n.Cluster.Endpoint, "host:port")
	} else if p, err := strconv.ParseUint(port, 10, 16); err != nil || p == 0 {
		bad("cluster.endpoint", n.Cluster.Endpoint, "host:port with a port from 1 to 65535")
	} else {
		c.EndpointHost, c.EndpointPort, c.EndpointSet = host, int32(p), true
	}
	for i, t := range n.BootstrapTokens {
		id, secret, ok := strings.Cut(t.Token.Reveal(), ".")
		if !ok || len(id) != 6 || len(secret) != 16 {
			errs = append(errs, fmt.Errorf("bootstrapTokens[%d].token: not of the form [a-z0-9]{6}.[a-z0-9]{16}", i))
			continue
		}
		tok := Token{ID: id, Secret: node.Secret(secret), Description: t.Description}
		if t.TTL != nil && *t.TTL != 0 {
			tok.Expiration = h.Now.Add(t.TTL.D()).UTC()
		}
		c.Tokens = append(c.Tokens, tok)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if bits := c.ServiceSubnet.Addr().BitLen() - c.ServiceSubnet.Bits(); bits < 4 {
		return nil, fmt.Errorf("cluster.networking.serviceSubnet: %s holds fewer than 16 addresses; the tenth is needed for DNS", c.ServiceSubnet)
	}
	return c, nil
}

// ServiceIP returns the n-th address of the service range: 1 is the API, 10 is DNS.
func (c *Config) ServiceIP(n int) netip.Addr {
	a := c.ServiceSubnet.Masked().Addr()
	for range n {
		a = a.Next()
	}
	return a
}

// Loopback is the loopback address of the node address's family.
func (c *Config) Loopback() string {
	if c.Address.Is6() {
		return "::1"
	}
	return "127.0.0.1"
}

// Endpoint is host:port of the API as clients outside the control plane see it.
func (c *Config) Endpoint() string {
	return net.JoinHostPort(c.EndpointHost, strconv.Itoa(int(c.EndpointPort)))
}

// EndpointURL is the API's URL for admin.conf, kube-proxy and workers.
func (c *Config) EndpointURL() string { return "https://" + c.Endpoint() }

// LocalEndpoint is host:port of this machine's own API server.
func (c *Config) LocalEndpoint() string {
	return net.JoinHostPort(c.Address.String(), strconv.Itoa(int(c.APIPort)))
}

// LocalURL is the URL of this machine's own API server.
func (c *Config) LocalURL() string { return "https://" + c.LocalEndpoint() }

// URL joins a scheme, an address of this machine and a port.
func URL(scheme, host string, port int) string {
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(port))
}

// Image returns the reference of a component delivered as an image.
func (c *Config) Image(component string) string {
	if ref := c.Delivery.Images[component]; ref != "" {
		return ref
	}
	repo := c.Delivery.ImageRepository
	if repo == "" {
		repo = DefaultRepository
	}
	switch component {
	case Etcd:
		return repo + "/etcd:" + EtcdImageTag
	case CoreDNS:
		if repo == DefaultRepository {
			repo += "/coredns"
		}
		return repo + "/coredns:" + CoreDNSImageTag
	default:
		return repo + "/" + component + ":" + c.KubernetesVersion
	}
}

// Verity says whether a component runs from the host's /usr.
func (c *Config) Verity(component string) bool {
	return c.Delivery.For(component) != node.DeliveryOCI
}

// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/sha256"
	"fmt"
	"net"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// material is what documents need beyond cluster.yaml.
type material struct {
	token, certificateKey, callbackToken node.Secret
	// created is the moment of the first rendering; empty where that is not known.
	created string
	// adminKey is the public half of the administrator's key where only the cluster can sign.
	adminKey string
	// pins identify the cluster's authority; none while it does not exist.
	pins []string
	// founders are the control planes that may start the cluster.
	founders []string
}

// manifestDir is where manifests of the cluster's own are on a control plane.
const manifestDir = "/etc/imgbuild/manifests"

// manifestPath returns where the i-th of podNetwork.manifests is on a control plane.
func manifestPath(i int, name string) string {
	return path.Join(manifestDir, fmt.Sprintf("%02d-%s", i, filepath.Base(name)))
}

// document returns the node document of a host. Values that are defaults of the node
// document too are written out where machines have to agree on them.
func (s *Source) document(h *Host, m *material) *node.Node {
	c := s.Cluster
	n := &node.Node{
		APIVersion: node.APIVersion, Kind: node.Kind, Role: h.Role,
		Cluster: node.Cluster{
			Name: c.Name, Created: m.created, EndpointMode: c.Endpoint.Mode, KubernetesVersion: c.KubernetesVersion, ProxyMode: c.Networking.ProxyMode,
			Networking: node.Networking{PodSubnet: c.Networking.PodSubnet, ServiceSubnet: c.Networking.ServiceSubnet, DNSDomain: c.Networking.DNSDomain},
		},
		Node:    c.machine(h),
		PKI:     node.PKI{Mode: c.PKI.Mode, Algorithm: c.PKI.Algorithm, CAValidity: c.PKI.CAValidity, Validity: c.PKI.Validity},
		Join:    node.Join{CACertHashes: m.pins, Renew: *c.Join.Renew},
		Kubelet: c.kubelet(h), Timeouts: c.Timeouts, Delivery: c.Delivery,
		Network:  node.Network{Provider: c.PodNetwork.Provider, MTU: c.PodNetwork.MTU, Interface: c.PodNetwork.Interface},
		Callback: node.Callback{URL: c.Callback.URL, CA: string(s.files[c.Callback.CAFile]), Token: m.callbackToken},
	}
	if host := c.EndpointHost(); host != "" {
		n.Cluster.Endpoint = net.JoinHostPort(host, strconv.Itoa(c.Endpoint.Port))
	}
	for _, p := range c.ControlPlanes() {
		if p.Address != "" {
			n.Cluster.ControlPlanes = append(n.Cluster.ControlPlanes, node.Peer{Name: p.Name, Address: p.Address})
		}
	}
	if len(n.Cluster.ControlPlanes) > 1 {
		n.Cluster.Founders = m.founders
	}
	n.BootstrapTokens = []node.BootstrapToken{{Token: m.token, Description: "machines of cluster " + c.Name, TTL: c.Join.TokenTTL}}
	if len(m.pins) == 0 {
		n.Join.CAVerification = node.VerifyToken
	}
	if h.Role == node.ControlPlane {
		n.Cluster.Kubelet = &c.Kubelet // never what a role or a host adds
		n.APIServer = node.APIServer{Port: int32(c.APIServer.Port), CertSANs: c.certSANs(), ExtraArgs: c.APIServer.ExtraArgs}
		n.ControllerManager, n.Scheduler = c.ControllerManager, c.Scheduler
		n.Etcd = node.Etcd{HeartbeatInterval: c.Etcd.HeartbeatInterval, ElectionTimeout: c.Etcd.ElectionTimeout, CPURequest: c.Etcd.CPURequest, ExtraArgs: c.Etcd.ExtraArgs}
		n.PKI.CertificateKey, n.PKI.Initiator, n.PKI.AdminKey = m.certificateKey, c.PKI.Initiator, m.adminKey
		for i, name := range c.PodNetwork.Manifests {
			n.Network.Manifests = append(n.Network.Manifests, manifestPath(i, name))
		}
	} else {
		n.APIServer.Port = int32(c.APIServer.Port)
		if c.PKI.Mode == node.PKIExternal {
			n.BootstrapTokens[0].Description = ""
		}
	}
	if c.VIP.Provider != node.VIPNone {
		n.VIP = node.VIP{Provider: c.VIP.Provider, Address: c.VIP.Address, LoadBalancer: c.VIP.LoadBalancer, RouterID: c.VIP.RouterID, AdvertInterval: c.VIP.AdvertInterval, HealthTimeout: c.VIP.HealthTimeout, LeaseDuration: c.VIP.LeaseDuration}
		if c.VIP.Interface != auto {
			n.VIP.Interface = c.VIP.Interface
		}
		n.VIP.Image = c.VIP.Image
		if h.Role == node.ControlPlane {
			n.VIP.Priority = h.VIPPriority
		}
	}
	return n
}

// certSANs are the names and addresses every API server's certificate covers beyond those
// that follow from its own document: those of all control planes, because in mode local, and
// for administrators, any of them may be asked under any name.
func (c *Cluster) certSANs() []string {
	var out []string
	add := func(names ...string) {
		for _, n := range names {
			if n != "" && !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	add(c.APIServer.CertSANs...)
	for _, p := range c.ControlPlanes() {
		add(p.Name, p.Address)
	}
	if c.Endpoint.Mode == node.EndpointLocal {
		add("127.0.0.1", "localhost")
	}
	return out
}

func (c *Cluster) machine(h *Host) node.Machine {
	role := c.role(h)
	m := node.Machine{Name: h.Name, Address: h.Address, Labels: joined(role.Labels, h.Labels), Taints: role.Taints}
	if h.Taints != nil {
		m.Taints = h.Taints
	}
	return m
}

// encode returns a document as the file that Ignition writes.
func encode(n *node.Node) ([]byte, error) {
	text, err := yaml.Marshal(n)
	if err != nil {
		return nil, fmt.Errorf("the node document of %s cannot be encoded", n.Node.Name) // the cause could quote a secret
	}
	return text, nil
}

// standIns have the form of what rendering makes, no compressor makes less of them, and they
// are no secrets.
func (s *Source) standIns() material {
	sum := func(of string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(of))) }
	m := material{created: time.Time{}.Format(time.RFC3339), token: node.Secret(sum("token")[:6] + "." + sum("token")[:16]), certificateKey: node.Secret(sum("key")), callbackToken: s.callbackToken()}
	if s.Cluster.PKI.Mode != node.PKIGenerate { // whose authority does not exist yet
		m.pins = []string{"sha256:" + sum("pin")}
	}
	return m
}

func (s *Source) callbackToken() node.Secret {
	return node.Secret(strings.TrimSpace(string(s.files[s.Cluster.Callback.TokenFile])))
}

// documents lets the node document's own checks judge what would become of each host, and
// reports what they find at the keys that the values come from. What is wrong already is not
// reported again, in other words, and neither is what may only follow from it.
func (v *validator) documents() {
	wrong := v.doc.Problems()
	for i := range v.c.Hosts {
		host := fmt.Sprintf("hosts[%d]", i)
		m := v.standIns()
		text, err := encode(v.document(&v.c.Hosts[i], &m))
		if err == nil {
			_, err = node.Parse(v.c.Hosts[i].Name, text)
		}
		problems, ok := err.(strict.Problems)
		if err != nil && !ok && len(wrong) == 0 {
			v.fail(host, err.Error())
		}
		for _, p := range problems {
			at, known := v.origin(i, p.Path)
			// The endpoint, and names that certificates cover, may be those of hosts.
			follows := about(wrong, host) && (at == "endpoint" || strings.HasPrefix(at, host+".") || strings.HasPrefix(at, "apiServer.certSANs[") && !v.doc.Has(at))
			if len(wrong) > 0 && (!known || follows || about(wrong, at)) {
				continue
			}
			p.Message = strings.ReplaceAll(p.Message, "cluster.networking.", "networking.")
			if !known {
				p.Message = p.Path + " " + p.Message
			}
			v.fail(at, p.Message, p.Allowed)
		}
	}
}

// about says whether one of the problems is with the value at path, something in it or something
// around it.
func about(problems strict.Problems, path string) bool {
	within := func(inner, outer string) bool {
		rest, ok := strings.CutPrefix(inner, outer)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	}
	return slices.ContainsFunc(problems, func(p strict.Problem) bool { return within(p.Path, path) || within(path, p.Path) })
}

// origins maps keys of the node document to those of cluster.yaml.
var origins = []struct{ from, to string }{
	{"cluster.endpointMode", "endpoint.mode"}, {"cluster.endpoint", "endpoint"}, {"cluster.name", "name"}, {"cluster.kubernetesVersion", "kubernetesVersion"},
	{"cluster.kubelet.", "kubelet."}, {"cluster.networking.", "networking."}, {"cluster.proxyMode", "networking.proxyMode"},
	{"pki.", "pki."}, {"bootstrapTokens[0].ttl", "join.tokenTTL"}, {"apiServer.", "apiServer."}, {"etcd.", "etcd."},
	{"controllerManager.", "controllerManager."}, {"scheduler.", "scheduler."},
	{"network.manifests", "podNetwork.manifests"}, {"network.", "podNetwork."}, {"delivery.", "delivery."},
	{"vip.", "vip."}, {"timeouts.", "timeouts."}, {"callback.ca", "callback.caFile"}, {"callback.token", "callback.tokenFile"}, {"callback.url", "callback.url"},
}

// origin returns the key of cluster.yaml that a key of the i-th host's document comes from.
func (v *validator) origin(i int, key string) (at string, known bool) {
	host := fmt.Sprintf("hosts[%d]", i)
	role := "roles.worker"
	if v.c.Hosts[i].Role == node.ControlPlane {
		role = "roles.controlPlane"
	}
	if own, ok := strings.CutPrefix(key, "node."); ok {
		for _, base := range []string{host, role} {
			if v.doc.Has(base + "." + own) {
				return base + "." + own, true
			}
		}
		return host + "." + own, true
	}
	if own, ok := strings.CutPrefix(key, "kubelet"); ok {
		for _, base := range []string{host, role} {
			if v.doc.Has(base + ".kubelet" + own) {
				return base + ".kubelet" + own, true
			}
		}
		return key, true
	}
	for _, o := range origins {
		if rest, ok := strings.CutPrefix(key, o.from); ok {
			return o.to + rest, true
		}
	}
	return host, false
}

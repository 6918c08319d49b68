// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/strict"
	"k8s.io/apimachinery/pkg/api/resource"
)

func (v *validator) pki(n *Node) {
	p := n.PKI
	strict.OneOf(v.doc, "pki.mode", p.Mode, PKIGenerate, PKIShared, PKIExternal)
	strict.OneOf(v.doc, "pki.algorithm", p.Algorithm, ECDSAP256, ECDSAP384, RSA2048, RSA3072, RSA4096)
	v.match("pki.certificateKey", p.CertificateKey.Reveal(), keyForm, "is not a certificate key", "64 hexadecimal digits, lower case")
	v.name("pki.initiator", p.Initiator)
	if block, rest := pem.Decode([]byte(p.AdminKey)); p.AdminKey != "" && (block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0) {
		v.fail("pki.adminKey", "is not a public key", "one PEM block PUBLIC KEY")
	} else if block != nil {
		if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
			v.fail("pki.adminKey", "is a damaged public key", "one PEM block PUBLIC KEY")
		}
	}
	v.positive("pki.caValidity", p.CAValidity, time.Hour)
	v.positive("pki.validity", p.Validity, time.Hour)
	if p.Validity > p.CAValidity {
		v.fail("pki.validity", "is longer than pki.caValidity", "at most "+p.CAValidity.D().String())
	}
	if n.Role != ControlPlane || p.Mode != PKIGenerate || len(n.Cluster.ControlPlanes) < 2 {
		return
	}
	if p.Initiator == "" {
		v.fail("pki.initiator", "is missing: with several control planes exactly one makes the authorities", "the name of one of cluster.controlPlanes, or pki.mode shared")
	}
}

func (v *validator) tokens(n *Node) {
	seen := map[string]int{}
	for i, t := range n.BootstrapTokens {
		at := fmt.Sprintf("bootstrapTokens[%d]", i)
		if !tokenForm.MatchString(t.Token.Reveal()) {
			v.fail(at+".token", "is not a bootstrap token", "6 characters, a dot, 16 characters, all lower-case letters and digits")
			continue
		}
		id, _, _ := t.Token.Split()
		if j, dup := seen[id]; dup {
			v.fail(at+".token", fmt.Sprintf("has the same id as bootstrapTokens[%d]", j), "an id per token")
		}
		seen[id] = i
		if t.TTL != nil && *t.TTL < 0 {
			v.fail(at+".ttl", "is negative", "0s (never expires) or longer")
		}
	}
	for i, h := range n.Join.CACertHashes {
		v.match(fmt.Sprintf("join.caCertHashes[%d]", i), h, hashForm, "is not a CA hash", "sha256: and 64 hexadecimal digits")
	}
	strict.OneOf(v.doc, "join.caVerification", n.Join.CAVerification, VerifyPin, VerifyToken)
	if n.Role != Worker || n.PKI.Mode == PKIExternal { // which delivers the kubelet's certificate
		return
	}
	if len(n.BootstrapTokens) == 0 {
		v.fail("bootstrapTokens", "is missing: a worker joins with a token", "at least one token")
	}
	if len(n.Join.CACertHashes) == 0 && n.Join.CAVerification != VerifyToken {
		v.fail("join.caCertHashes", "is missing: a worker must know which cluster it joins", "at least one hash, or join.caVerification token")
	}
}

// components are the names delivery.components and delivery.images take.
var components = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns", "flannel"}

func (v *validator) parts(n *Node) {
	if n.APIServer.Port < 1 || n.APIServer.Port > 65535 {
		v.fail("apiServer.port", "is not a port", "1 to 65535")
	}
	for path, sans := range map[string][]string{"apiServer.certSANs": n.APIServer.CertSANs, "etcd.serverCertSANs": n.Etcd.ServerCertSANs, "etcd.peerCertSANs": n.Etcd.PeerCertSANs} {
		for i, s := range sans {
			if _, err := netip.ParseAddr(s); err != nil && !subdomainForm.MatchString(strings.TrimPrefix(s, "*.")) {
				v.fail(fmt.Sprintf("%s[%d]", path, i), "is neither a DNS name nor an IP address", "a DNS name (*. in front allowed) or an IP address")
			}
		}
	}
	v.etcdTiming(n.Etcd)
	if q := n.Etcd.CPURequest; q != "" {
		if parsed, err := resource.ParseQuantity(q); err != nil || parsed.Sign() <= 0 {
			v.fail("etcd.cpuRequest", "is not a CPU quantity", "a quantity above 0 such as 500m or 2")
		}
	}
	strict.OneOf(v.doc, "network.provider", n.Network.Provider, NetworkFlannel, NetworkNone)
	if m := n.Network.MTU; m != 0 && (m < 576 || m > 65535) {
		v.fail("network.mtu", "is out of range", "0 (derive it) or 576 to 65535")
	}
	v.match("network.interface", n.Network.Interface, interfaceForm, "is not an interface name", "1 to 15 characters without / and spaces")
	for i, m := range n.Network.Manifests {
		if !path.IsAbs(m) {
			v.fail(fmt.Sprintf("network.manifests[%d]", i), "is not an absolute path", "a path that begins with /")
		}
	}
	for at, args := range map[string]map[string]string{
		"apiServer.extraArgs": n.APIServer.ExtraArgs, "controllerManager.extraArgs": n.ControllerManager.ExtraArgs,
		"scheduler.extraArgs": n.Scheduler.ExtraArgs, "etcd.extraArgs": n.Etcd.ExtraArgs,
	} {
		for flag := range args {
			if !flagForm.MatchString(flag) {
				v.fail(at+"."+flag, "is not the name of a flag", "letters, digits and dashes, without the dashes in front")
			}
		}
	}
	v.delivery(n.Delivery)
	if n.Role == ControlPlane && n.Network.Provider == NetworkFlannel && n.Delivery.For("flannel") == DeliveryOCI && n.Delivery.Images["flannel"] == "" {
		v.fail("delivery.images.flannel", "is missing: as an image, flannel has no default", "an image such as ghcr.io/flannel-io/flannel:VERSION, or delivery.components.flannel verity")
	}
}

// What etcd takes where the document says nothing (etcd's embed.NewConfig).
const (
	etcdHeartbeat = 100 * time.Millisecond
	etcdElection  = time.Second
)

func (v *validator) etcdTiming(etcd Etcd) {
	h, e := etcd.HeartbeatInterval.D(), etcd.ElectionTimeout.D()
	within := func(path string, d, least, most time.Duration) bool {
		ok := d == 0 || d >= least && d <= most
		if !ok {
			v.fail(path, "is out of range", fmt.Sprintf("%v to %v", least, most))
		}
		return ok
	}
	ranges := within("etcd.heartbeatInterval", h, time.Millisecond, 10*time.Second)
	ranges = within("etcd.electionTimeout", e, 10*time.Millisecond, 50*time.Second) && ranges
	heartbeat, election := cmp.Or(h, etcdHeartbeat), cmp.Or(e, etcdElection)
	switch {
	case !ranges || election >= 5*heartbeat:
	case e == 0:
		v.fail("etcd.heartbeatInterval", fmt.Sprintf("needs a longer etcd.electionTimeout than etcd's default of %v: etcd refuses less than 5 heartbeats", election),
			fmt.Sprintf("at most %v, or etcd.electionTimeout of at least %v", election/5, 5*heartbeat))
	case h == 0:
		v.fail("etcd.electionTimeout", fmt.Sprintf("is less than 5 heartbeats of etcd's default of %v, which etcd refuses", heartbeat),
			fmt.Sprintf("at least %v, or etcd.heartbeatInterval of at most %v", 5*heartbeat, election/5))
	default:
		v.fail("etcd.electionTimeout", "is less than 5 heartbeats, which etcd refuses", "at least "+(5*heartbeat).String())
	}
}

// Forms of flags, and of images as the OCI distribution specification names them.
var (
	flagForm       = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	repositoryForm = regexp.MustCompile(`^[a-z0-9]+([-.][a-z0-9]+)*(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)
	referenceForm  = regexp.MustCompile(`^[a-z0-9]+([-.][a-z0-9]+)*(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@sha256:[0-9a-f]{64})?$`)
)

func (v *validator) delivery(d Delivery) {
	strict.OneOf(v.doc, "delivery.mode", d.Mode, DeliveryVerity, DeliveryOCI)
	for c, m := range d.Components {
		v.component("delivery.components."+c, c)
		strict.OneOf(v.doc, "delivery.components."+c, m, DeliveryVerity, DeliveryOCI)
	}
	v.match("delivery.imageRepository", d.ImageRepository, repositoryForm, "is not a repository", "host[:port][/path], without scheme, tag and digest")
	image := func(at, reference string) {
		if !referenceForm.MatchString(reference) {
			v.fail(at, "is not an image", "host[:port]/name[:tag][@sha256:DIGEST]")
		}
	}
	for c, reference := range d.Images {
		v.component("delivery.images."+c, c)
		image("delivery.images."+c, reference)
	}
	for c, reference := range d.ForeignImages {
		at := "delivery.foreignImages." + c
		if c != "kube-proxy" && c != "flannel" {
			v.fail(at, "is not a component that runs on every node", "kube-proxy, flannel")
		}
		image(at, reference)
	}
}

func (v *validator) component(path, name string) {
	for _, c := range components {
		if c == name {
			return
		}
	}
	v.fail(path, "is not a component", strings.Join(components, ", "))
}

func (v *validator) timeouts(n *Node) {
	t := n.Timeouts
	for name, d := range map[string]Duration{
		"controlPlaneComponentHealthCheck": t.ControlPlaneComponentHealthCheck,
		"kubeletHealthCheck":               t.KubeletHealthCheck, "kubernetesAPICall": t.KubernetesAPICall,
		"etcdAPICall": t.EtcdAPICall, "discovery": t.Discovery, "tlsBootstrap": t.TLSBootstrap, "nodeReady": t.NodeReady,
	} {
		v.positive("timeouts."+name, d, time.Second)
	}
	// A probe's period is a number of seconds (core/v1 Probe).
	if d := t.ReadinessProbePeriod.D(); d < time.Second || d > time.Minute || d%time.Second != 0 {
		v.fail("timeouts.readinessProbePeriod", "is not a period of a probe", "whole seconds, 1s to 1m")
	}
	// What comes from vip.healthTimeout is judged there.
	if d := t.BalancerHealthCheck; (d.D() < time.Second || d.D() > time.Minute) && d != n.VIP.HealthTimeout {
		v.fail("timeouts.balancerHealthCheck", "is out of range", "1s to 1m")
	}
}

func (v *validator) positive(path string, d Duration, least time.Duration) {
	if d.D() < least {
		v.fail(path, "is too short", "at least "+least.String())
	}
}

// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/firstboot/strict"
	"github.com/imgbuild/imgbuild/firstboot/strict/stricttest"
)

// refusal is a document and a part of the line that its problem must give.
type refusal struct{ text, want string }

const minimalWorker = "apiVersion: imgbuild.io/v1alpha1\nkind: Node\nrole: worker\n"

var refusals = []refusal{
	{"kind: Node\nrole: worker\n", "apiVersion: is missing; allowed: imgbuild.io/v1alpha1"},
	{strings.Replace(minimal, "Node", "Pod", 1), `n:2:7: kind: value "Pod": is not known; allowed: Node`},
	{strings.Replace(minimal, "control-plane", "master", 1), `n:3:7: role: value "master": is not known; allowed: control-plane, worker`},
	{minimalWorker, "cluster.endpoint: is missing"},
	{minimalWorker, "bootstrapTokens: is missing"},
	{minimalWorker, "join.caCertHashes: is missing"},
	{minimal + "cluster: {name: 'A b'}", `cluster.name: value "A b": is not a cluster name`},
	{minimal + "cluster: {created: 2026-11-21}", `cluster.created: value "2026-11-21": is not a moment; allowed: RFC 3339`},
	{minimal + "cluster: {created: '2026-11-21T11:45:14'}", `cluster.created: value "2026-11-21T11:45:14": is not a moment`},
	{minimal + "cluster: {endpoint: host}", `cluster.endpoint: value "host": has no port`},
	{minimal + "cluster: {endpoint: 'host:99999'}", `cluster.endpoint: value "host:99999": has no valid port`},
	{minimal + "cluster: {endpoint: 'a b:1'}", `cluster.endpoint: value "a b:1": has no valid host`},
	{minimal + "cluster: {endpointMode: x}", `cluster.endpointMode: value "x": is not known`},
	{minimal + "cluster: {kubernetesVersion: '1.36'}", `cluster.kubernetesVersion: value "1.36": is not a Kubernetes version`},
	{minimal + "cluster: {proxyMode: x}", "cluster.proxyMode: value \"x\": is not known; allowed: nftables, iptables, ipvs, upstream"},
	{minimal + "cluster: {networking: {podSubnet: 10.244.0.0}}", `podSubnet: value "10.244.0.0": is not an address range`},
	{minimal + "cluster: {networking: {podSubnet: 10.244.1.0/16}}", "podSubnet: value \"10.244.1.0/16\": has bits set behind the prefix; allowed: 10.244.0.0/16"},
	{minimal + "cluster: {networking: {serviceSubnet: 10.0.0.0/8}}", `serviceSubnet: value "10.0.0.0/8": has a prefix length`},
	{minimal + "cluster: {networking: {podSubnet: 'fd00:10::/32'}}", `podSubnet: value "fd00:10::/32": has a prefix length that does not work; allowed: /48 to /64`},
	{minimal + "cluster: {networking: {podSubnet: 'fd00:10::/65'}}", `podSubnet: value "fd00:10::/65": has a prefix length that does not work; allowed: /48 to /64`},
	{minimal + "cluster: {networking: {serviceSubnet: 'fd00:96::/64'}}", `serviceSubnet: value "fd00:96::/64": has a prefix length that does not work; allowed: /108 to /124`},
	{minimal + "cluster: {networking: {serviceSubnet: 10.244.0.0/16}}", "overlaps cluster.networking.podSubnet"},
	{minimal + "cluster: {networking: {dnsDomain: '-'}}", `dnsDomain: value "-": is not a DNS domain`},
	{minimal + "cluster: {endpoint: 'a:1', controlPlanes: [{name: a, address: 192.0.2.1}, {name: a, address: 192.0.2.1}]}", `controlPlanes[1].name: value "a": is also the name of controlPlanes[0]`},
	{minimal + "cluster: {endpoint: 'a:1', controlPlanes: [{name: a, address: 192.0.2.1}, {name: b, address: 192.0.2.1}]}", `controlPlanes[1].address: value "192.0.2.1": is also the address of controlPlanes[0]`},
	{minimal + "cluster: {endpoint: 'a:1', controlPlanes: [{name: a, address: 192.0.2.1}, {name: b, address: 192.0.2.2}]}", "pki.initiator: is missing"},
	{minimal + "cluster: {controlPlanes: [{}]}", "controlPlanes[0].name: is missing"},
	{minimal + "cluster: {controlPlanes: [{}]}", "controlPlanes[0].address: is missing"},
	{minimal + "node: {name: A_b}", `node.name: value "A_b": is not a node name`},
	{minimal + "node: {address: 127.0.0.1}", `node.address: value "127.0.0.1": is not a usable IP address`},
	{minimal + "node: {address: 10.96.3.4}", `node.address: value "10.96.3.4": lies inside the pod or service range`},
	{minimal + "node: {interface: 'a/b'}", `node.interface: value "a/b": is not an interface name`},
	{minimal + "node: {labels: {'a b': c}}", "is not a label key"},
	{minimal + "node: {labels: {a: 'b c'}}", `node.labels.a: value "b c": is not a label value`},
	{minimal + "node: {taints: [{key: a, effect: Sometimes}]}", `node.taints[0].effect: value "Sometimes": is not known`},
	{minimal + "node: {taints: [{effect: NoExecute}]}", "node.taints[0].key: is not a taint key"},
	{minimal + "pki: {mode: none}", `pki.mode: value "none": is not known`},
	{minimal + "pki: {algorithm: ED25519}", `pki.algorithm: value "ED25519": is not known`},
	{minimal + "pki: {validity: 10m}", `pki.validity: value "10m": is too short`},
	{minimal + "pki: {validity: 99999h, caValidity: 9h}", `pki.validity: value "99999h": is longer than pki.caValidity`},
	{minimal + "pki: {certificateKey: hush}", "pki.certificateKey: is not a certificate key; allowed"},
	{minimal + "pki: {adminKey: ssh-ed25519 AAAA}", `pki.adminKey: value "ssh-ed25519 AAAA": is not a public key`},
	{minimal + "bootstrapTokens: [{token: hush}]", "bootstrapTokens[0].token: is not a bootstrap token; allowed"},
	{minimal + "bootstrapTokens: [{token: abcdef.0123456789abcdef}, {token: abcdef.1123456789abcdef}]", "bootstrapTokens[1].token: has the same id"},
	{minimal + "bootstrapTokens: [{token: abcdef.0123456789abcdef, ttl: -1h}]", `bootstrapTokens[0].ttl: value "-1h": is negative`},
	{minimal + "bootstrapTokens: [{token: abcdef.0123456789abcdef, ttl: soon}]", "write for example 90s"},
	{minimal + "bootstrapTokens: [hush]", "bootstrapTokens[0]: is a single value, not a mapping"},
	{minimal + "join: {caCertHashes: [x]}", `join.caCertHashes[0]: value "x": is not a CA hash`},
	{minimal + "apiServer: {port: 70000}", `apiServer.port: value "70000": is not a port`},
	{minimal + "apiServer: {port: 10250}", `apiServer.port: value "10250": is a port of the kubelet on the same machine; allowed: another port`},
	{minimal + "apiServer: {certSANs: ['a b']}", `apiServer.certSANs[0]: value "a b": is neither`},
	{minimal + "etcd: {heartbeatInterval: 1m}", `etcd.heartbeatInterval: value "1m": is out of range`},
	{minimal + "etcd: {heartbeatInterval: 1s, electionTimeout: 2s}", `etcd.electionTimeout: value "2s": is less than 5 heartbeats`},
	{minimal + "etcd: {electionTimeout: 1h}", `etcd.electionTimeout: value "1h": is out of range; allowed: 10ms to 50s`},
	{minimal + "etcd: {heartbeatInterval: 201ms}", `etcd.heartbeatInterval: value "201ms": needs a longer etcd.electionTimeout than etcd's default of 1s: etcd refuses less than 5 heartbeats; allowed: at most 200ms, or etcd.electionTimeout of at least 1.005s`},
	{minimal + "etcd: {electionTimeout: 400ms}", `etcd.electionTimeout: value "400ms": is less than 5 heartbeats of etcd's default of 100ms, which etcd refuses; allowed: at least 500ms, or etcd.heartbeatInterval of at most 80ms`},
	{minimal + "kubelet: {maxPods: -1}", `kubelet.maxPods: value "-1": is negative`},
	{minimal + "kubelet: {resolvConf: x}", `kubelet.resolvConf: value "x": is not an absolute path`},
	{minimal + "network: {provider: calico}", `network.provider: value "calico": is not known`},
	{minimal + "network: {mtu: 10}", `network.mtu: value "10": is out of range`},
	{minimal + "delivery: {mode: x}", `delivery.mode: value "x": is not known`},
	{minimal + "delivery: {components: {x: oci}}", `delivery.components.x: value "oci": is not a component`},
	{minimal + "delivery: {mode: oci}", "delivery.images.flannel: is missing: as an image, flannel has no default; allowed: an image such as"},
	{minimal + "delivery: {components: {flannel: oci}, images: {coredns: a/b}}", "delivery.images.flannel: is missing"},
	{minimal + "etcd: {cpuRequest: much}", `etcd.cpuRequest: value "much": is not a CPU quantity; allowed`},
	{minimal + "etcd: {cpuRequest: '0'}", `etcd.cpuRequest: value "0": is not a CPU quantity`},
	{minimal + "delivery: {components: {etcd: x}}", `delivery.components.etcd: value "x": is not known`},
	{minimal + "delivery: {images: {x: y}}", `delivery.images.x: value "y": is not a component`},
	{minimal + "vip: {provider: x}", `vip.provider: value "x": is not known`},
	{minimal + "vip: {address: 192.0.2.9}", `vip.address: value "192.0.2.9": has no vip.provider`},
	{minimal + "vip: {provider: keepalived}", "vip.address: is missing"},
	{minimal + "vip: {provider: kube-vip, address: 192.0.2.9}", "vip.image: is missing"},
	{minimal + "node: {address: 192.0.2.9}\nvip: {provider: external, address: 192.0.2.9}", `vip.address: value "192.0.2.9": is also node.address`},
	{minimal + "vip: {provider: keepalived, address: 192.0.2.9, routerID: 300, priority: 255}", `vip.routerID: value "300": is out of range`},
	{minimal + "vip: {provider: keepalived, address: 192.0.2.9, loadBalancer: x}", `vip.loadBalancer: value "x": is not known`},
	{minimal + "timeouts: {nodeReady: 1ms}", `timeouts.nodeReady: value "1ms": is too short`},
	{minimal + "timeouts: {readinessProbePeriod: 61s}", `timeouts.readinessProbePeriod: value "61s": is not a period of a probe; allowed: whole seconds, 1s to 1m`},
	{minimal + "timeouts: {readinessProbePeriod: 1500ms}", `timeouts.readinessProbePeriod: value "1500ms": is not a period of a probe`},
	{minimal + "timeouts: {readinessProbePeriod: 100ms}", `timeouts.readinessProbePeriod: value "100ms": is not a period of a probe`},
	{minimal + "callback: {url: 'ftp://x'}", `callback.url: value "ftp://x": is not a usable URL`},
	{minimal + "callback: {url: 'https://u:hush@x/'}", `callback.url: value "https://...@x/": is not a usable URL`},
	{minimal + "callback: {url: 'https://x/', ca: x}", `callback.ca: value "x": holds no certificate`},
	{minimal + "callback: {token: hush}", "n:4:11: callback.url: is missing; allowed: an http or https URL"},
	{minimal + "callback: {ca: x}", "callback.url: is missing"},
	{minimal + "callback: {ca: x}", `callback.ca: value "x": holds no certificate`},
	{minimal + "callback: {token: 'hush hush'}", "callback.token: cannot be sent as a bearer token"},
	{minimal + "roel: x", `roel: is not a known key; did you mean "role"?`},
	{minimal + "callback: {url: 'https://x/', token: 'hush hush'}", "callback.token: cannot be sent as a bearer token; allowed"},
	{minimal + "apiServer: {extraArgs: {--v: 2}}", `apiServer.extraArgs.--v: value "2": is not the name of a flag`},
	{minimal + "controllerManager: {extraArgs: {--v: 2}}", `controllerManager.extraArgs.--v: value "2": is not the name of a flag`},
	{minimal + "scheduler: {extraArgs: {V: 2}}", `scheduler.extraArgs.V: value "2": is not the name of a flag`},
	{minimal + "etcd: {extraArgs: {'a b': 2}}", `etcd.extraArgs.a b: value "2": is not the name of a flag`},
	{minimal + "etcd: {serverCertSANs: ['a b']}", `etcd.serverCertSANs[0]: value "a b": is neither`},
	{minimal + "etcd: {peerCertSANs: [a, '*']}", `etcd.peerCertSANs[1]: value "*": is neither`},
	{minimal + "join: {renew: yes}", `join.renew: value "yes": is not a truth value; allowed: true, false`},
	{minimal + "network: {interface: 'a b'}", `network.interface: value "a b": is not an interface name`},
	{minimal + "vip: {provider: keepalived, address: 192.0.2.9, interface: 'a b'}", `vip.interface: value "a b": is not an interface name`},
	{minimal + "cluster: {kubelet: {maxPods: -1}}", `cluster.kubelet.maxPods: value "-1": is negative`},
	{minimal + "cluster: {kubelet: {evictionSoft: {memory.available: 1Gi}}}", `cluster.kubelet.evictionSoft.memory.available: value "1Gi": has no grace period`},
	{minimal + "pki: {caValidity: 1s}", `pki.caValidity: value "1s": is too short; allowed: at least 1h0m0s`},
	{minimal + "node: {taints: [{key: a, value: 'b c', effect: NoExecute}]}", `node.taints[0].value: value "b c": is not a taint value`},
	{minimal + "delivery: {imageRepository: 'https://example.org'}", `delivery.imageRepository: value "https://example.org": is not a repository`},
	{minimal + "delivery: {images: {etcd: 'a b'}}", `delivery.images.etcd: value "a b": is not an image`},
	{minimal + "timeouts: {controlPlaneComponentHealthCheck: 1ms}", `timeouts.controlPlaneComponentHealthCheck: value "1ms": is too short`},
	{minimal + "timeouts: {kubeletHealthCheck: -1m}", `timeouts.kubeletHealthCheck: value "-1m": is too short`},
	{minimal + "timeouts: {kubernetesAPICall: soon}", `timeouts.kubernetesAPICall: value "soon": is not a duration`},
	{minimal + "timeouts: {etcdAPICall: 1ms}", `timeouts.etcdAPICall: value "1ms": is too short`},
	{minimal + "timeouts: {discovery: 1ms}", `timeouts.discovery: value "1ms": is too short`},
	{minimal + "timeouts: {tlsBootstrap: 1}", `timeouts.tlsBootstrap: value "1": is not a duration`},
}

// Every rule, each with the document that breaks it, also where else that can be. No field is
// without one.
func TestEveryRule(t *testing.T) {
	fields := stricttest.Of[Node]()
	fields.Bound = map[string]string{
		"hosts[0].node.name: is missing": "a machine that is alone takes the host name",
	}
	parse := func(text string) error {
		_, err := Parse("n", []byte(text))
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("a secret is shown: %v", err)
		}
		return err
	}
	for _, c := range slices.Concat(refusals, vipRefusals, hostRefusals, kubeletRefusals) {
		if err := fields.Refused(c.text, c.want, parse); err != nil {
			t.Error(err)
		}
	}
	for _, missing := range fields.Missing(map[string]string{
		"bootstrapTokens[0].description": "any text will do; TestEveryKeyRefusesAnotherKind has the list in its place",
	}) {
		t.Errorf("no case has a wrong %s", missing)
	}
}

// A value of another kind is a problem with its key, wherever that is.
func TestEveryKeyRefusesAnotherKind(t *testing.T) {
	for path, text := range stricttest.Of[Node]().WrongKinds() {
		_, err := Parse("n", []byte(text))
		var ps strict.Problems
		if !errors.As(err, &ps) || !slices.ContainsFunc(ps, func(p strict.Problem) bool { return p.Path == path && p.Line == 1 }) {
			t.Errorf("%s\n%v", text, err)
		}
	}
}

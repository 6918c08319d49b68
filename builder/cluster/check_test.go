// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/strict"
	"github.com/imgbuild/imgbuild/firstboot/strict/stricttest"
)

// base is a cluster with one of everything, a block per line so that tests replace blocks.
const base = `apiVersion: imgbuild.io/v1alpha1
kind: Cluster
name: demo
endpoint: {mode: vip}
vip: {provider: keepalived, address: 192.0.2.10}
networking: {podSubnet: 10.244.0.0/16}
hostNetwork: {addressing: static, subnet: 192.0.2.0/24, gateway: 192.0.2.1}
pki: {mode: shared}
hosts:
- {name: cp-1, role: control-plane, address: 192.0.2.11, match: {mac: "52:54:00:00:00:01"}}
- {name: cp-2, role: control-plane, address: 192.0.2.12, match: {mac: "52:54:00:00:00:02", uuid: 8E2B4B4C-0D0C-4C5F-9C52-0B8A3F4A1B2C}}
- {name: cp-3, role: control-plane, address: 192.0.2.13, match: {mac: "52:54:00:00:00:03"}}
- {name: w-1, role: worker, address: 192.0.2.21, match: {mac: "52:54:00:00:00:11", serial: S1}}
`

// alone is a cluster with one control plane and nothing else.
const alone = `apiVersion: imgbuild.io/v1alpha1
kind: Cluster
name: demo
hosts: [{name: a, role: control-plane, address: 192.0.2.11}]
`

const kubeVIP = "provider: kube-vip, address: 192.0.2.10, image: 'a/b@" + someDigest + "'"

// with replaces the line of a key in base, or adds one before hosts.
func with(block string) string {
	key, _, _ := strings.Cut(block, ":")
	if i := strings.Index("\n"+base, "\n"+key+":"); i >= 0 {
		end := i + strings.IndexByte(base[i:], '\n')
		if key == "hosts" {
			end = len(base) - 1
		}
		return base[:i] + block + base[end:]
	}
	return strings.Replace(base, "hosts:\n", block+"\nhosts:\n", 1)
}

// host adds a host to base.
func withHost(host string) string { return base + "- {" + host + "}\n" }

func TestBaseIsFine(t *testing.T) {
	if s := parse(t, base); len(s.Warnings) > 0 {
		t.Error(s.Warnings)
	}
}

// Every rule, each with a file that breaks it and a part of the line that it must give, also where
// else the same can be wrong. No key is without one.
func TestProblems(t *testing.T) {
	fields := stricttest.Of[Cluster]()
	const sharedBond = "a bond of hostNetwork may name what all hosts have"
	fields.Bound = map[string]string{
		`hosts[4].network.subnet: value "198.51.100.0/24": does not hold the gateway 192.0.2.1`:                   "it is hostNetwork that has the gateway",
		`hosts[4].network.gateway: value "192.0.3.1": lies outside the subnet`:                                    "it is hostNetwork that has the subnet",
		`hosts[4].network.interface: value "eth0": has no meaning with the bond of hostNetwork`:                   "it is hostNetwork that has the bond",
		`hosts[4].network.subnet: value "192.0.2.0/30": has the gateway 192.0.2.3 of hostNetwork for its network`: "it is hostNetwork that has the gateway",
		`hosts[4].network.bond.members[0]: value "52:54:00:00:00:03": is also that of hosts[2] (cp-3)`:            sharedBond,
		`hosts[5].network.bond.members[1]: value "52:54:00:00:00:0A": is also that of hosts[4] (x)`:               sharedBond,
	}
	dir := place(t, "bad.bu", "variant: fcos\nversion: 1.6.0\nstorage:\n  files:\n    - path: relative\n", "unknown.bu", "variant: fcos\nversion: 1.6.0\nstorge: {}\n",
		"none.bu", "storage: {}\n", "own.bu", "variant: fcos\nversion: 1.6.0\nstorage: {files: [{path: /etc/imgbuild/node.yaml}]}\n",
		"exp.bu", "variant: fcos\nversion: 1.7.0-experimental\n", "broken.bu", "variant: [\n", "text", "hello", "key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("hush")})), "torn", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("hush")})),
		"fine.bu", "variant: fcos\nversion: 1.6.0\n", "link.bu", "variant: fcos\nversion: 1.6.0\nstorage: {links: [{path: /etc/imgbuild/node.yaml, target: /x}]}\n",
		"clash.bu", "variant: fcos\nversion: 1.6.0\nstorage: {links: [{path: /etc/imgbuild, target: /x}]}\n", "two", "a b", "bom", "\ufeffhush", "many", "variant: fcos\nversion: 1.6.0\nstorage: {files: [{path: /f, contents: {inline: '"+noise(20000)+"'}}]}\n")
	parse := func(text string) error {
		_, err := Parse("cluster.yaml", dir, []byte(text))
		if err != nil && (fault.ClassOf(err) != fault.Config || strings.Contains(err.Error(), "hush")) {
			t.Errorf("of class %v, or a secret is shown: %v", fault.ClassOf(err), err)
		}
		return err
	}
	for _, c := range []struct{ text, want string }{
		{with("apiVersion: v1"), `cluster.yaml:1:13: apiVersion: value "v1": is not known; allowed: imgbuild.io/v1alpha1`},
		{with("kind: Node"), `kind: value "Node": is not known; allowed: Cluster`},
		{with("name: Demo"), `name: value "Demo": is not a cluster name`},
		{with("name: ''"), "name: value \"\": is missing"},
		{with("nmae: x"), `nmae: is not a known key; did you mean "name"?`},
		{with("kubernetesVersion: 1.36"), `kubernetesVersion: value "1.36": is not a Kubernetes version`},
		{with("endpoint: {mode: x}"), `endpoint.mode: value "x": is not known; allowed: vip, local, direct`},
		{with("endpoint: {mode: local}"), `endpoint.mode: value "local": is local, which has no use for vip`},
		{with("endpoint: {mode: direct}"), `endpoint.mode: value "direct": is direct, which has no use for vip`},
		{with("endpoint: {name: 192.0.2.9}"), "endpoint.name: value \"192.0.2.9\": is an address"},
		{with("endpoint: {name: 'api_1.example.org'}"), "is a name that no certificate can cover"},
		{with("endpoint: {name: '*.example.org'}"), "is a name that no certificate can cover"},
		{with("endpoint: {name: 'api.example.org.'}"), "is a name that no certificate can cover"},
		{with("endpoint: {name: " + strings.Repeat("a", 64) + ".org}"), "is a name that no certificate can cover"},
		{with("endpoint: {name: cp-1}"), "endpoint.name: value \"cp-1\": is also the name of hosts[0]"},
		{with("endpoint: {port: 70000}"), `endpoint.port: value "70000": is out of range`},
		{with("endpoint: {port: 8443}"), `has a port on which nothing listens`},
		{with("vip: {provider: x, address: 192.0.2.10}"), `vip.provider: value "x": is not known`},
		{with("vip: {provider: none}"), `vip.provider: value "none": is none, and endpoint.mode vip needs one`},
		{with("vip: {address: 192.0.2.10}"), `vip.address: value "192.0.2.10": has no vip.provider`},
		{with("vip: {provider: keepalived}"), "vip.address: is missing"},
		{with("vip: {provider: keepalived, address: x}"), `vip.address: value "x": is not a usable IP address`},
		{with("vip: {provider: keepalived, address: 192.0.2.11}"), `vip.address: value "192.0.2.11": is also hosts[0].address`},
		{with("vip: {provider: keepalived, address: 192.0.2.1}"), `vip.address: value "192.0.2.1": is also the gateway`},
		{with("vip: {provider: keepalived, address: 192.0.3.1}"), `vip.address: value "192.0.3.1": lies outside the subnet of hosts[0] (192.0.2.0/24)`},
		{with("vip: {provider: keepalived, address: 192.0.2.255}"), "is the network or broadcast address"},
		{with("hostNetwork: {subnet: 192.0.2.0/24, dns: [192.0.2.2, 192.0.2.10]}"), `vip.address: value "192.0.2.10": is also hostNetwork.dns[1], a name server; allowed: an address that nothing else has`},
		{strings.Replace(strings.ReplaceAll(base, "192.0.2.", "2001:db8::")+"- {name: x, role: worker, address: '2001:db8::30', network: {dns: ['2001:DB8:0::10']}}\n", "subnet: 2001:db8::0/24", "subnet: '2001:db8::/64'", 1),
			`vip.address: value "2001:db8::10": is also hosts[4].network.dns[0], a name server`},
		{with("vip: {provider: external, address: 10.96.0.9}"), "lies inside networking.serviceSubnet"},
		{with("vip: {provider: keepalived, address: 192.0.2.10, interface: 'a b'}"), `vip.interface: value "a b": is not an interface name`},
		{with("vip: {provider: keepalived, address: 192.0.2.10, routerID: 256}"), `vip.routerID: value "256": is out of range`},
		{with("vip: {provider: keepalived, address: 192.0.2.10, advertInterval: 1h}"), `vip.advertInterval: value "1h": is out of range`},
		{with("vip: {provider: keepalived, address: 192.0.2.10, healthTimeout: 1h}"), `vip.healthTimeout: value "1h": is out of range`},
		{with("vip: {provider: kube-vip, address: 192.0.2.10}"), "vip.image: is missing"},
		{with("vip: {provider: kube-vip, address: 192.0.2.10, image: 'example.org/kube-vip:v1'}"), "vip.image: value \"example.org/kube-vip:v1\": is not pinned by digest"},
		{with("vip: {provider: keepalived, address: 192.0.2.10, image: x}"), "vip.image: value \"x\": is for vip.provider kube-vip only"},
		{with("vip: {provider: keepalived, address: 192.0.2.10, loadBalancer: x}"), `vip.loadBalancer: value "x": is not known`},
		{with("vip: {provider: external, address: 192.0.2.10, loadBalancer: haproxy}"), `vip.loadBalancer: value "haproxy": is for vip.provider keepalived only`},
		{with("vip: {provider: external, address: 192.0.2.10, interface: eth0}"), `vip.interface: value "eth0": is for vip.provider keepalived and kube-vip only; allowed: leave it out`},
		{with("vip: {" + kubeVIP + ", routerID: 9}"), `vip.routerID: value "9": is for vip.provider keepalived only; allowed: leave it out`},
		{with("vip: {" + kubeVIP + ", advertInterval: 1s}"), `vip.advertInterval: value "1s": is for vip.provider keepalived only`},
		{with("vip: {" + kubeVIP + ", leaseDuration: 1s}"), `vip.leaseDuration: value "1s": is out of range; allowed: 5s to 2m0s in whole seconds`},
		{with("vip: {provider: keepalived, address: 192.0.2.10, leaseDuration: 30s}"), `vip.leaseDuration: value "30s": is for vip.provider kube-vip only`},
		{with("vip: {" + kubeVIP + ", healthTimeout: 1s}"), `vip.healthTimeout: value "1s": is for vip.provider keepalived only`},
		{strings.Replace(with("vip: {"+kubeVIP+"}"), "{name: cp-2,", "{name: cp-2, vipPriority: 9,", 1), `hosts[1].vipPriority: value "9": is for vip.provider keepalived only`},
		{strings.Replace(alone, "{name: a,", "{name: a, vipPriority: 9,", 1), `hosts[0].vipPriority: value "9": has no vip.provider`},
		{alone + "vip: {interface: eth0}", `vip.interface: value "eth0": has no vip.provider`},
		{alone + "vip: {routerID: 9, advertInterval: 1s}", `vip.routerID: value "9": has no vip.provider; allowed: leave it out, or set vip.provider`},
		{alone + "vip: {healthTimeout: 1s}", `vip.healthTimeout: value "1s": has no vip.provider`},
		{strings.Replace(with("vip: {provider: keepalived, address: 192.0.2.10, loadBalancer: haproxy}"), "{mode: vip}", "{mode: vip, port: 6443}", 1), `endpoint.port: value "6443": is also apiServer.port`},
		{with("networking: {podSubnet: '10.244.0.0/16,fd00::/48'}"), "networking.podSubnet: value \"10.244.0.0/16,fd00::/48\": names two ranges: dual-stack clusters are not supported"},
		{with("networking: {podSubnet: 10.244.0.0/16, serviceSubnet: 'fd00::/112'}"), "is of another address family than networking.podSubnet"},
		{with("networking: {podSubnet: 10.244.0.0/23}"), `networking.podSubnet: value "10.244.0.0/23": has room for 2 nodes, and there are 4 hosts; allowed: a wider range`},
		{with("networking: {podSubnet: 'fd00:10::/63', serviceSubnet: 'fd00:96::/112'}"), "has room for 2 nodes"},
		{with("networking: {podSubnet: x}"), `networking.podSubnet: value "x": is not an address range`},
		{with("networking: {podSubnet: 10.96.0.0/16}"), "overlaps networking.podSubnet"},
		{with("networking: {podSubnet: 192.0.0.0/16}"), "hostNetwork.subnet: value \"192.0.2.0/24\": overlaps networking.podSubnet"},
		{with("networking: {serviceSubnet: 10.96.0.1/12}"), "has bits set behind the prefix; allowed: 10.96.0.0/12"},
		{with("networking: {serviceSubnet: 10.96.0.0/30}"), "networking.serviceSubnet: value \"10.96.0.0/30\": has a prefix length that does not work"},
		{with("networking: {dnsDomain: a_b}"), `networking.dnsDomain: value "a_b": is not a DNS domain`},
		{with("networking: {proxyMode: x}"), `networking.proxyMode: value "x": is not known`},
		{with("podNetwork: {provider: calico}"), `podNetwork.provider: value "calico": is not known`},
		{with("podNetwork: {mtu: 5}"), `podNetwork.mtu: value "5": is out of range`},
		{with("podNetwork: {interface: 'a b'}"), `podNetwork.interface: value "a b": is not an interface name`},
		{with("podNetwork: {manifests: [absent.yaml]}"), `podNetwork.manifests[0]: value "absent.yaml": cannot be read`},
		{with("hostNetwork: {addressing: auto}"), `hostNetwork.addressing: value "auto": is not known; allowed: dhcp, static`},
		{with("hostNetwork: {addressing: static}"), "hosts[0].address: value \"192.0.2.11\": has no subnet"},
		{with("hostNetwork: {subnet: 192.0.2.0}"), `hostNetwork.subnet: value "192.0.2.0": is not an address range`},
		{with("hostNetwork: {subnet: 192.0.2.0/29}"), "hosts[0].address: value \"192.0.2.11\": lies outside the subnet"},
		{with("hostNetwork: {subnet: 192.0.2.0/24, gateway: 192.0.3.1}"), "hostNetwork.gateway: value \"192.0.3.1\": lies outside the subnet"},
		{with("hostNetwork: {subnet: 192.0.2.0/24, gateway: 192.0.2.0}"), `hostNetwork.gateway: value "192.0.2.0": is the network or broadcast address of 192.0.2.0/24; allowed: an address between them`},
		{with("hostNetwork: {subnet: 192.0.2.0/24, gateway: 192.0.2.255}"), `hostNetwork.gateway: value "192.0.2.255": is the network or broadcast address of 192.0.2.0/24`},
		{with("hostNetwork: {gateway: x}"), `hostNetwork.gateway: value "x": is not a usable`},
		{with("hostNetwork: {dns: [x]}"), `hostNetwork.dns[0]: value "x": is not a usable`},
		{with("hostNetwork: {interface: 'a=b'}"), `hostNetwork.interface: value "a=b": is not an interface name`},
		{with("hostNetwork: {mtu: 5}"), `hostNetwork.mtu: value "5": is out of range`},
		{with("hostNetwork: {vlan: 4095}"), `hostNetwork.vlan: value "4095": is out of range`},
		{with("hostNetwork: {bond: {}}"), "hostNetwork.bond.members: is missing"},
		{with("hostNetwork: {bond: {name: 'a b', members: [eno1]}}"), `hostNetwork.bond.name: value "a b": is not an interface name`},
		{with("hostNetwork: {bond: {mode: x, members: [eno1]}}"), `hostNetwork.bond.mode: value "x": is not known`},
		{with("hostNetwork: {bond: {members: ['a b']}}"), `hostNetwork.bond.members[0]: value "a b": is neither`},
		{with("hostNetwork: {bond: {members: [eno1, eno1]}}"), `hostNetwork.bond.members[1]: value "eno1": is empty or was already named`},
		{with("hostNetwork: {interface: eth0, bond: {members: [eno1]}}"), "hostNetwork.interface: value \"eth0\": has no meaning with a bond"},
		{with("pki: {mode: x}"), `pki.mode: value "x": is not known; allowed: shared, generate, external`},
		{with("pki: {algorithm: x}"), `pki.algorithm: value "x": is not known`},
		{with("pki: {caValidity: 1s}"), `pki.caValidity: value "1s": is too short`},
		{with("pki: {validity: 1s}"), `pki.validity: value "1s": is too short`},
		{with("pki: {caValidity: 24h, validity: 48h}"), `pki.validity: value "48h": is longer than pki.caValidity`},
		{with("pki: {initiator: cp-1}"), `pki.initiator: value "cp-1": has a meaning in mode generate only`},
		{with("pki: {mode: generate, initiator: w-1}"), `pki.initiator: value "w-1": is not the name of a control plane`},
		{with("join: {tokenTTL: 1s}"), `join.tokenTTL: value "1s": is too short`},
		{with("join: {tokenTTL: 0s}"), `join.tokenTTL: value "0s": is too short; allowed: at least 1m`},
		{with("join: {renew: maybe}"), `join.renew: value "maybe": is not a truth value`},
		{with("apiServer: {port: 0x10}"), `apiServer.port: value "0x10": is not a whole number`},
		{with("apiServer: {port: 70000}"), `apiServer.port: value "70000": is out of range`},
		{with("apiServer: {port: 10250}"), `cluster.yaml:9:19: apiServer.port: value "10250": is a port of the kubelet on the same machine; allowed: another port, for example 6443`},
		{with("apiServer: {certSANs: ['a b']}"), `apiServer.certSANs[0]: value "a b": is neither`},
		{with("apiServer: {extraArgs: [a]}"), `apiServer.extraArgs: is a list, not a mapping`},
		{with("etcd: {heartbeatInterval: 1m}"), `etcd.heartbeatInterval: value "1m": is out of range`},
		{with("etcd: {electionTimeout: 1h}"), `etcd.electionTimeout: value "1h": is out of range`},
		{with("etcd: {heartbeatInterval: 1s, electionTimeout: 2s}"), `etcd.electionTimeout: value "2s": is less than 5 heartbeats`},
		{with("etcd: {cpuRequest: much}"), `etcd.cpuRequest: value "much": is not a CPU quantity`},
		{with("etcd: {extraArgs: x}"), `etcd.extraArgs: value "x": is a single value, not a mapping`},
		{with("kubelet: {maxPods: -1}"), `kubelet.maxPods: value "-1": is negative`},
		{with("kubelet: {resolvConf: x}"), `kubelet.resolvConf: value "x": is not an absolute path`},
		{with("kubelet: {systemReserved: {cpu: lots}}"), `kubelet.systemReserved.cpu: value "lots": is not a quantity`},
		{with("kubelet: {kubeReserved: {disk: 1Gi}}"), `kubelet.kubeReserved.disk: value "1Gi": is not a resource`},
		{with("kubelet: {evictionHard: {memory: 1Gi}}"), `kubelet.evictionHard.memory: value "1Gi": is not an eviction signal`},
		{with("kubelet: {evictionSoft: {memory.available: 120%}}"), `kubelet.evictionSoft.memory.available: value "120%": is neither`},
		{with("timeouts: {nodeReady: 1ms}"), `timeouts.nodeReady: value "1ms": is too short`},
		{with("timeouts: {balancerHealthCheck: 2m}"), `timeouts.balancerHealthCheck: value "2m": is out of range; allowed: 1s to 1m`},
		{with("timeouts: {readinessProbePeriod: 1500ms}"), `timeouts.readinessProbePeriod: value "1500ms": is not a period of a probe`},
		{with("timeouts: {controlPlaneComponentHealthCheck: 0s, kubeletHealthCheck: 1ms}"), `timeouts.kubeletHealthCheck: value "1ms": is too short`},
		{with("timeouts: {controlPlaneComponentHealthCheck: -1s}"), `timeouts.controlPlaneComponentHealthCheck: value "-1s": is too short`},
		{with("timeouts: {kubernetesAPICall: 1ms}"), `timeouts.kubernetesAPICall: value "1ms": is too short`},
		{with("timeouts: {etcdAPICall: 1ms}"), `timeouts.etcdAPICall: value "1ms": is too short`},
		{with("timeouts: {discovery: 1ms}"), `timeouts.discovery: value "1ms": is too short`},
		{with("timeouts: {tlsBootstrap: soon}"), `timeouts.tlsBootstrap: value "soon": is not a duration`},
		{with("kubelet: {evictionSoftGracePeriod: {memory.available: 1m}}"), `kubelet.evictionSoftGracePeriod.memory.available: value "1m": has no threshold`},
		{with("kubelet: {evictionSoft: {memory.available: 1Gi}}"), `kubelet.evictionSoft.memory.available: value "1Gi": has no grace period`},
		{with("apiServer: {extraArgs: {--v: 2}}"), `apiServer.extraArgs.--v: value "2": is not the name of a flag`},
		{with("controllerManager: {extraArgs: {--v: 2}}"), `controllerManager.extraArgs.--v: value "2": is not the name of a flag`},
		{with("scheduler: {extraArgs: {'a b': 2}}"), `scheduler.extraArgs.a b: value "2": is not the name of a flag`},
		{with("delivery: {imageRepository: 'https://example.org'}"), `delivery.imageRepository: value "https://example.org": is not a repository`},
		{with("delivery: {images: {etcd: 'a b'}}"), `delivery.images.etcd: value "a b": is not an image`},
		{with("delivery: {foreignImages: {flannel: ''}}"), `delivery.foreignImages.flannel: value "": is not an image`},
		{with("callback: {url: 'https://x/', caFile: key}"), `callback.caFile: value "key": holds a private key beside certificates`},
		{with("callback: {url: 'https://x/', caFile: torn}"), `callback.caFile: value "torn": holds a damaged certificate (number 1)`},
		{with("callback: {url: 'ftp://x'}"), `callback.url: value "ftp://x": is not a usable URL`},
		{with("callback: {caFile: text}"), "callback.url: is missing"},
		{with("callback: {url: 'https://x/', caFile: text}"), `callback.caFile: value "text": holds no certificate`},
		{with("callback: {url: 'https://x/', tokenFile: two}"), `callback.tokenFile: value "two": does not hold one token`},
		{with("callback: {url: 'https://x/', tokenFile: bom}"), `callback.tokenFile: value "bom": cannot be sent as a bearer token`},
		{with("callback: {url: 'https://x/', tokenFile: absent}"), `callback.tokenFile: value "absent": cannot be read`},
		{with("timeServers: ['a b']"), `timeServers[0]: value "a b": is neither`},
		{with("registries: [{mirrors: [{url: 'https://m'}]}]"), "registries[0].host: is missing"},
		{with("registries: [{host: 'a/b', mirrors: [{url: 'https://m'}]}]"), `registries[0].host: value "a/b": is not a registry`},
		{with("registries: [{host: a}]"), "registries[0].mirrors: is missing"},
		{with("registries: [{host: a, mirrors: [{url: 'https://m'}]}, {host: a, mirrors: [{url: 'https://m'}]}]"), `registries[1].host: value "a": is also the host of registries[0]`},
		{with("registries: [{host: '*', fallback: true, mirrors: [{url: 'https://m'}]}]"), `registries[0].fallback: value "true": cannot be asked for`},
		{with("registries: [{host: a, mirrors: [{}]}]"), "registries[0].mirrors[0].url: is missing"},
		{with("registries: [{host: a, mirrors: [{url: m}]}]"), `registries[0].mirrors[0].url: value "m": is not the URL of a registry`},
		{with("registries: [{host: a, mirrors: [{url: 'https://u:hush@m'}]}]"), `value "https://...@m": is not the URL of a registry`},
		{with("registries: [{host: a, mirrors: [{url: 'https://m'}, {url: 'https://m'}]}]"), `registries[0].mirrors[1].url: value "https://m": is also that of mirrors[0]`},
		{with("registries: [{host: a, mirrors: [{url: 'http://m', caFile: text}]}]"), `registries[0].mirrors[0].caFile: value "text": has no use with http`},
		{with("registries: [{host: a, mirrors: [{url: 'http://m', credentialsFile: text}]}]"), `credentialsFile: value "text": would be sent in the clear`},
		{with("registries: [{host: a, mirrors: [{url: 'https://m', credentialsFile: text}]}]"), `credentialsFile: value "text": does not hold credentials`},
		{with("registries: [{host: a, mirrors: [{url: 'https://m', caFile: absent}]}]"), `caFile: value "absent": cannot be read`},
		{with("registries: [{host: a, mirrors: [{url: 'https://m', overridePath: x}]}]"), `overridePath: value "x": is not a truth value`},
		{with("delivery: {mode: x}"), `delivery.mode: value "x": is not known`},
		{with("delivery: {components: {x: oci}}"), `delivery.components.x: value "oci": is not a component`},
		{with("delivery: {foreignImages: {etcd: x}}"), `delivery.foreignImages.etcd: value "x": is not a component`},
		{with("platform: nowhere"), `platform: value "nowhere": is not a platform`},
		{with("platform: hetzner"), `platform: value "hetzner": would put private keys of control planes into user data`},
		{with("platform: hetzner\nuserData: {secrets: tokens}"), `would put private keys`},
		{with("platform: hetzner\npki: {mode: generate}"), "pki: was already given on line 8"},
		{strings.Replace(with("platform: hetzner"), "mode: shared", "mode: generate", 1), `would put bootstrap tokens into user data`},
		{with("platform: aws\nuserData: {secrets: all}\nbutane: [many]"), "bytes of user data, and platform aws takes 16384"},
		{with("userData: {secrets: x}"), `userData.secrets: value "x": is not known; allowed: refuse, tokens, all`},
		{with("butane: [absent.bu]"), `butane[0]: value "absent.bu": cannot be read`},
		{with("butane: [/dev/zero]"), `butane[0]: value "/dev/zero": cannot be read: it is not a regular file`},
		{with("butane: ['']"), `butane[0]: value "": is empty`},
		{with("butane: [bad.bu]"), "bad.bu:5:13: storage.files.0.path"},
		{with("butane: [unknown.bu]"), "unknown.bu:3:1"},
		{with("butane: [none.bu]"), "none.bu:1:1: is not a Butane config"},
		{with("butane: [broken.bu]"), "broken.bu:"},
		{with("butane: [exp.bu]"), "exp.bu:1:1: makes an Ignition config that specification 3.5.0 does not allow"},
		{with("butane: [own.bu]"), `own.bu:3:26: writes /etc/imgbuild/node.yaml, which is written from cluster.yaml`},
		{with("roles: {worker: {butane: [bad.bu]}}"), "bad.bu:5:13"},
		{with("roles: {controlPlane: {butane: [absent.bu]}}"), "roles.controlPlane.butane[0]: value \"absent.bu\": cannot be read"},
		{with("roles: {worker: {labels: {'a b': x}}}"), `roles.worker.labels.a b: value "x": is not a label key`},
		{with("roles: {worker: {taints: [{key: k, effect: x}]}}"), `roles.worker.taints[0].effect: value "x": is not known`},
		{with("roles: {controlPlane: {kubelet: {maxPods: -1}}}"), `roles.controlPlane.kubelet.maxPods: value "-1": is negative`},
		{with("roles: {worker: {taints: [{key: 'a b', effect: NoExecute}]}}"), `roles.worker.taints[0].key: value "a b": is not a taint key`},
		{with("roles: {worker: {taints: [{key: k, value: 'a b', effect: NoExecute}]}}"), `roles.worker.taints[0].value: value "a b": is not a taint value`},
		{with("butane: [link.bu]"), `link.bu:3:26: writes /etc/imgbuild/node.yaml`},
		{with("butane: [fine.bu, clash.bu]"), "hosts[0]: the snippet clash.bu does not go together with the rest"},
		{with("hosts: []"), "hosts: is missing"},
		{with("hosts: [{name: w, role: worker, address: 192.0.2.21}]"), "hosts: has no control plane"},
		{withHost("role: worker, address: 192.0.2.30"), "hosts[4].name: is missing"},
		{withHost("name: A, role: worker, address: 192.0.2.30"), `hosts[4].name: value "A": is not a host name`},
		{withHost("name: " + strings.Repeat("a.", 32) + "a, role: worker, address: 192.0.2.30"), "is too long for a host name"},
		{withHost("name: cp-1, role: worker, address: 192.0.2.30"), `hosts[4].name: value "cp-1": is also that of hosts[0] (cp-1)`},
		{withHost("name: x, address: 192.0.2.30"), "hosts[4].role: is missing"},
		{withHost("name: x, role: boss, address: 192.0.2.30"), `hosts[4].role: value "boss": is not known`},
		{withHost("name: x, role: worker"), "hosts[4].address: is missing, and its addressing is static"},
		{withHost("name: x, role: worker, address: x"), `hosts[4].address: value "x": is not a usable`},
		{withHost("name: x, role: worker, address: '192.0.2.30,fd00::30'"), `hosts[4].address: value "192.0.2.30,fd00::30": names two addresses: dual-stack clusters are not supported`},
		{withHost("name: x, role: worker, address: 192.0.2.11"), `hosts[4].address: value "192.0.2.11": is also that of hosts[0]`},
		{withHost("name: x, role: worker, address: 192.0.2.0"), "is the network or broadcast address"},
		{withHost("name: x, role: worker, address: 192.0.2.1"), "hosts[4].address: value \"192.0.2.1\": is also the gateway"},
		{withHost("name: x, role: worker, address: 10.244.0.9"), "lies inside networking.podSubnet"},
		{withHost("name: x, role: worker, address: 'fd00::9'"), "is of another address family"},
		{withHost("name: x, role: worker, address: 192.0.2.30, match: {mac: 5254}"), `hosts[4].match.mac: value "5254": is not a MAC address`},
		{withHost("name: x, role: worker, address: 192.0.2.30, match: {mac: '52:54:00:00:00:01'}"), "hosts[4].match.mac: value \"52:54:00:00:00:01\": is also that of hosts[0]"},
		{withHost("name: x, role: worker, address: 192.0.2.30, match: {uuid: x}"), `hosts[4].match.uuid: value "x": is not a UUID`},
		{withHost("name: x, role: worker, address: 192.0.2.30, match: {uuid: 8e2b4b4c-0d0c-4c5f-9c52-0b8a3f4a1b2c}"), "hosts[4].match.uuid: value \"8e2b4b4c-0d0c-4c5f-9c52-0b8a3f4a1b2c\": is also that of hosts[1]"},
		{withHost("name: x, role: worker, address: 192.0.2.30, match: {serial: ' s'}"), `hosts[4].match.serial: value " s": begins or ends`},
		{withHost("name: x, role: worker, address: 192.0.2.30, match: {serial: s1}"), "hosts[4].match.serial: value \"s1\": is also that of hosts[3]"},
		{withHost("name: x, role: worker, address: 192.0.2.30, network: {vlan: 5000}"), `hosts[4].network.vlan: value "5000": is out of range`},
		{withHost("name: x, role: worker, address: 198.51.100.30, network: {subnet: 198.51.100.0/24}"), `hosts[4].network.subnet: value "198.51.100.0/24": does not hold the gateway 192.0.2.1`},
		{withHost("name: x, role: worker, address: 192.0.2.30, network: {gateway: 192.0.3.1}"), `hosts[4].network.gateway: value "192.0.3.1": lies outside the subnet`},
		{withHost("name: x, role: worker, address: 192.0.2.2, network: {subnet: 192.0.2.0/30, gateway: 192.0.2.3}"), `hosts[4].network.gateway: value "192.0.2.3": is the network or broadcast address of 192.0.2.0/30`},
		{strings.Replace(withHost("name: x, role: worker, address: 192.0.2.2, network: {subnet: 192.0.2.0/30}"), "gateway: 192.0.2.1}", "gateway: 192.0.2.3}", 1), `hosts[4].network.subnet: value "192.0.2.0/30": has the gateway 192.0.2.3 of hostNetwork for its network`},
		{withHost("name: x, role: worker, address: 192.0.2.30, network: {bond: {members: ['52:54:00:00:00:03']}}"), `hosts[4].network.bond.members[0]: value "52:54:00:00:00:03": is also that of hosts[2] (cp-3)`},
		{strings.Replace(withHost("name: x, role: worker, address: 192.0.2.30, match: {mac: '52:54:00:00:00:AA'}"), "role: control-plane,", "role: control-plane, network: {bond: {members: [eno1, '52:54:00:00:00:aa']}},", 1),
			`hosts[4].match.mac: value "52:54:00:00:00:AA": is also that of hosts[0]`},
		{withHost("name: x, role: worker, address: 192.0.2.30, network: {bond: {members: ['52:54:00:00:00:0a']}}") + "- {name: y, role: worker, address: 192.0.2.31, network: {bond: {members: [eno1, '52:54:00:00:00:0A']}}}\n",
			`hosts[5].network.bond.members[1]: value "52:54:00:00:00:0A": is also that of hosts[4] (x)`},
		{withHost("name: x, role: worker, address: 192.0.2.30, network: {bond: {members: ['52:54:00:00:00:0a', '52:54:00:00:00:0A']}}"), `hosts[4].network.bond.members[1]: value "52:54:00:00:00:0A": is empty or was already named`},
		{strings.Replace(withHost("name: x, role: worker, address: 192.0.2.30, network: {interface: eth0}"), "addressing: static", "addressing: static, bond: {members: [eno1]}", 1),
			`hosts[4].network.interface: value "eth0": has no meaning with the bond of hostNetwork`},
		{withHost("name: x, role: worker, address: 192.0.2.30, labels: {a: 'b c'}"), `hosts[4].labels.a: value "b c": is not a label value`},
		{withHost("name: x, role: worker, address: 192.0.2.30, taints: [{key: k, effect: x}]"), `hosts[4].taints[0].effect: value "x": is not known`},
		{withHost("name: x, role: worker, address: 192.0.2.30, kubelet: {maxPods: -1}"), `hosts[4].kubelet.maxPods: value "-1": is negative`},
		{withHost("name: x, role: worker, address: 192.0.2.30, butane: [absent.bu]"), `hosts[4].butane[0]: value "absent.bu": cannot be read`},
		{withHost("name: x, role: worker, address: 192.0.2.30, vipPriority: 9"), `hosts[4].vipPriority: value "9": is for control planes only`},
		{withHost("name: x, role: control-plane, address: 192.0.2.30, vipPriority: 1"), `hosts[4].vipPriority: value "1": is out of range`},
		{withHost("name: x, role: worker, address: 192.0.2.30, platform: x"), `hosts[4].platform: value "x": is not a platform`},
		{strings.Replace(strings.Replace(base, "addressing: static", "addressing: dhcp", 1), "address: 192.0.2.11, ", "", 1), "hosts[0].address: is missing: control planes have to know each other"},
		{"apiVersion: imgbuild.io/v1alpha1\nkind: Cluster\nname: a\nhosts: [{name: a, role: control-plane}]", "hosts[0].address: is missing, and so is endpoint.name"},
		{"apiVersion: imgbuild.io/v1alpha1\nkind: Cluster\nname: a\nendpoint: {name: api.example.org}\npki: {mode: external}\nhosts: [{name: a, role: control-plane}]", "hosts[0].address: is missing, and certificates that are signed elsewhere hold it"},
		{strings.Replace(strings.Replace(base, "vip: {provider: keepalived, address: 192.0.2.10}\n", "", 1), "mode: vip", "mode: direct", 1), "endpoint.name: is missing: with several control planes"},
		{strings.Replace(strings.Replace(base, "vip: {provider: keepalived, address: 192.0.2.10}\n", "", 1), "mode: vip", "mode: local, port: 6443", 1), `endpoint.port: value "6443": is also apiServer.port`},
		{strings.Replace(alone, "name: demo", "name: demo\nendpoint: {port: 8443}", 1), "endpoint: has a port on which nothing listens; allowed: apiServer.port (6443)"},
		{strings.Replace(alone, "name: demo", "name: demo\nendpoint: {mode: local, port: 10256}", 1), `cluster.yaml:4:31: endpoint.port: value "10256": is a port of kube-proxy on the control planes, where the load balancer would listen; allowed: another port, for example 8443`},
		{strings.Replace(with("vip: {provider: keepalived, address: 192.0.2.10, loadBalancer: haproxy}"), "{mode: vip}", "{mode: vip, port: 2381}", 1), `endpoint.port: value "2381": is a port of etcd on the control planes`},
		{"", "is empty"},
	} {
		if err := fields.Refused(c.text, c.want, parse); err != nil {
			t.Error(err)
		}
	}
	for _, missing := range fields.Missing(nil) {
		t.Errorf("no case has a wrong %s", missing)
	}
}

// A value of another kind is a problem with its key, wherever that is.
func TestEveryKeyRefusesAnotherKind(t *testing.T) {
	for path, text := range stricttest.Of[Cluster]().WrongKinds() {
		_, err := Parse("cluster.yaml", t.TempDir(), []byte(text))
		var ps strict.Problems
		if !errors.As(err, &ps) || !slices.ContainsFunc(ps, func(p strict.Problem) bool { return p.Path == path && p.Line == 1 }) {
			t.Errorf("%s\n%v", text, err)
		}
	}
}

// An API server is refused every port that something beside it has.
func TestPortsOfTheControlPlane(t *testing.T) {
	for _, port := range []int{kubeadm.EtcdClientPort, kubeadm.EtcdPeerPort, kubeadm.EtcdMetricsPort, kubeadm.ControllerManagerPort, kubeadm.SchedulerPort, kubeadm.KubeletHealthPort} {
		want := fmt.Sprintf("apiServer.port: value \"%d\": is a port of", port)
		if _, err := Parse("cluster.yaml", t.TempDir(), fmt.Appendf(nil, "%sapiServer: {port: %d}", alone, port)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// Files with objects are read as first boot reads them, and every document that cannot be applied
// is named. None is quoted: it may hold a secret.
func TestManifests(t *testing.T) {
	text := with("podNetwork: {manifests: [own.yaml]}")
	parse(t, text, "own.yaml", someManifest)
	for manifest, want := range map[string][]string{
		"":                                     {"holds no object"},
		"a: [hush":                             {"document 1: is not YAML"},
		"hush":                                 {"document 1: is not an object"},
		"kind: Secret\nmetadata: {name: hush}": {"document 1: apiVersion is missing"},
		someManifest + "---\napiVersion: v1\nkind: Secret\nstringData: {a: hush}\n---\nhush\n": {"document 2: metadata.name is missing", "document 3: is not an object"},
	} {
		_, err := Parse("cluster.yaml", place(t, "own.yaml", manifest), []byte(text))
		if err == nil || strings.Count(err.Error(), `podNetwork.manifests[0]: value "own.yaml": is no manifest: `) != len(want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v", manifest, err)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: %v, want %s", manifest, err, w)
			}
		}
	}
}

// What looks like one of the problems and is none.
func TestAccepted(t *testing.T) {
	for _, text := range []string{
		withHost("name: x, role: worker, address: 192.0.2.31, match: {serial: x}, network: {interface: eth0, subnet: 192.0.2.30/31, gateway: 192.0.2.30}"),
		strings.Replace(base, "role: control-plane,", "role: control-plane, network: {bond: {members: ['52:54:00:00:00:01', '52:54:00:00:00:0a']}},", 1),
		with("hostNetwork: {addressing: static, subnet: 192.0.2.0/24, bond: {members: ['52:54:00:00:00:01', '52:54:00:00:00:02', '52:54:00:00:00:03', '52:54:00:00:00:11']}}"),
		strings.Replace(with("vip: {provider: external, address: 192.0.2.10}"), "gateway:", "dns: [192.0.2.10], gateway:", 1),
		strings.Replace(alone, "name: demo", "name: demo\nendpoint: {mode: direct, name: api.example.org, port: 10250}", 1),
		with("apiServer: {port: 2112}"),
		alone + "vip: {interface: auto}",
	} {
		parse(t, text)
	}
}

func TestWarnings(t *testing.T) {
	for text, want := range map[string]string{
		withHost("name: cp-4, role: control-plane, address: 192.0.2.14, match: {serial: x}"): "hosts: has 4 control planes: an even number",
		withHost("name: x, role: worker, address: 192.0.2.30"):                               "hosts[4].address: value \"192.0.2.30\": would be given to every Ethernet interface",
		with("endpoint: {name: api.demo.local}"):                                             "endpoint.name: value \"api.demo.local\": ends in .local",
		with("podNetwork: {provider: none}"):                                                 "podNetwork.provider: value \"none\": installs no pod network",
		with("platform: gcp\nuserData: {secrets: all}"):                                      "vip.provider: value \"keepalived\": needs a network that delivers gratuitous ARP",
		with("pki: {caValidity: 8760h}"):                                                     "pki.validity",
		with("callback: {url: 'http://x/', tokenFile: token}"):                               "callback.url: value \"http://x/\": sends the token in the clear",
	} {
		s := parse(t, text, "token", "abc")
		found := false
		for _, w := range s.Warnings {
			found = found || strings.Contains(w.Error(), want) && w.Line > 0
		}
		if !found {
			t.Errorf("%s\ngot  %v\nwant %s", text, s.Warnings, want)
		}
	}
}

// Everything that is wrong is reported by one check.
func TestAllProblemsAtOnce(t *testing.T) {
	text := strings.Replace(with("name: Demo"), "address: 192.0.2.12", "address: 192.0.2.11", 1)
	text = strings.Replace(text, "hosts:\n", "colour: red\nplatform: hetzner\nbutane: [bad.bu]\netcd: {cpuRequest: much}\nhosts:\n", 1)
	text = strings.Replace(text, "{podSubnet: 10.244.0.0/16}", "{podSubnet: 10.96.0.0/16, proxyMode: ebpf}", 1)
	_, err := Parse("cluster.yaml", place(t, "bad.bu", "variant: fcos\nversion: 1.6.0\nstorage:\n  files:\n    - path: relative\n"), []byte(text))
	for _, want := range []string{"name: value", "colour: is not", "hosts[1].address", "bad.bu:5:13", "overlaps networking.podSubnet",
		`networking.proxyMode: value "ebpf"`, "etcd.cpuRequest", "would put private keys"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

// What is wrong with the only host does not keep what all hosts share from being judged.
func TestAWrongHostHidesNothing(t *testing.T) {
	for _, hosts := range []string{"hosts: [{name: Cp-1, role: control-plane, address: 192.0.2.11}]", "hosts: [{name: w-1, role: worker}]"} {
		_, err := Parse("cluster.yaml", t.TempDir(), []byte("apiVersion: imgbuild.io/v1alpha1\nkind: Cluster\nname: demo\nnetworking: {podSubnet: 10.96.0.0/16}\nkubelet: {systemReserved: {cpu: lots}}\n"+hosts))
		var ps strict.Problems
		if !errors.As(err, &ps) || len(ps) != 3 {
			t.Errorf("%s: %v", hosts, err)
		}
		for _, want := range []string{"hosts", "overlaps networking.podSubnet", `kubelet.systemReserved.cpu: value "lots"`} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: no %q in %v", hosts, want, err)
			}
		}
	}
}

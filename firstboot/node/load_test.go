// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/firstboot/strict"
)

const minimal = "apiVersion: imgbuild.io/v1alpha1\nkind: Node\nrole: control-plane\n"

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.yaml")
	if _, _, err := Load(path); !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), path) {
		t.Errorf("an absent document: %v", err)
	}
	if err := os.WriteFile(path, []byte(minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	n, digest, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if n.Role != ControlPlane || n.APIServer.Port != 6443 || digest != Digest([]byte(minimal)) || !strings.HasPrefix(digest, "sha256:") {
		t.Errorf("%+v %s", n, digest)
	}
}

// Every rule, each with the document that breaks it and a part of the line it must give.
func TestEveryRule(t *testing.T) {
	worker := strings.Replace(minimal, "control-plane", "worker", 1)
	for _, c := range []struct{ text, want string }{
		{"kind: Node\nrole: worker\n", "apiVersion: is missing; allowed: imgbuild.io/v1alpha1"},
		{strings.Replace(minimal, "Node", "Pod", 1), `n:2:7: kind: value "Pod": is not known; allowed: Node`},
		{strings.Replace(minimal, "control-plane", "master", 1), `n:3:7: role: value "master": is not known; allowed: control-plane, worker`},
		{worker, "cluster.endpoint: is missing"},
		{worker, "bootstrapTokens: is missing"},
		{worker, "join.caCertHashes: is missing"},
		{minimal + "cluster: {name: 'A b'}", `cluster.name: value "A b": is not a cluster name`},
		{minimal + "cluster: {endpoint: host}", `cluster.endpoint: value "host": has no port`},
		{minimal + "cluster: {endpoint: 'host:99999'}", `cluster.endpoint: value "host:99999": has no valid port`},
		{minimal + "cluster: {endpoint: 'a b:1'}", `cluster.endpoint: value "a b:1": has no valid host`},
		{minimal + "cluster: {endpointMode: x}", `cluster.endpointMode: value "x": is not known`},
		{minimal + "cluster: {kubernetesVersion: '1.36'}", `cluster.kubernetesVersion: value "1.36": is not a Kubernetes version`},
		{minimal + "cluster: {proxyMode: x}", "cluster.proxyMode: value \"x\": is not known; allowed: nftables, iptables, ipvs, upstream"},
		{minimal + "cluster: {networking: {podSubnet: 10.244.0.0}}", `podSubnet: value "10.244.0.0": is not an address range`},
		{minimal + "cluster: {networking: {podSubnet: 10.244.1.0/16}}", "podSubnet: value \"10.244.1.0/16\": has bits set behind the prefix; allowed: 10.244.0.0/16"},
		{minimal + "cluster: {networking: {serviceSubnet: 10.0.0.0/8}}", `serviceSubnet: value "10.0.0.0/8": has a prefix length`},
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
		{minimal + "bootstrapTokens: [{token: hush}]", "bootstrapTokens[0].token: is not a bootstrap token; allowed"},
		{minimal + "bootstrapTokens: [{token: abcdef.0123456789abcdef}, {token: abcdef.1123456789abcdef}]", "bootstrapTokens[1].token: has the same id"},
		{minimal + "bootstrapTokens: [{token: abcdef.0123456789abcdef, ttl: -1h}]", `bootstrapTokens[0].ttl: value "-1h": is negative`},
		{minimal + "bootstrapTokens: [{token: abcdef.0123456789abcdef, ttl: soon}]", "write for example 90s"},
		{minimal + "bootstrapTokens: [hush]", "bootstrapTokens[0]: is a single value, not a mapping"},
		{minimal + "join: {caCertHashes: [x]}", `join.caCertHashes[0]: value "x": is not a CA hash`},
		{minimal + "apiServer: {port: 70000}", `apiServer.port: value "70000": is not a port`},
		{minimal + "apiServer: {certSANs: ['a b']}", `apiServer.certSANs[0]: value "a b": is neither`},
		{minimal + "etcd: {heartbeatInterval: 1m}", `etcd.heartbeatInterval: value "1m": is out of range`},
		{minimal + "etcd: {heartbeatInterval: 1s, electionTimeout: 2s}", `etcd.electionTimeout: value "2s": is less than 5 heartbeats`},
		{minimal + "etcd: {electionTimeout: 1h}", `etcd.electionTimeout: value "1h": is out of range`},
		{minimal + "kubelet: {maxPods: -1}", `kubelet.maxPods: value "-1": is negative`},
		{minimal + "kubelet: {resolvConf: x}", `kubelet.resolvConf: value "x": is not an absolute path`},
		{minimal + "network: {provider: calico}", `network.provider: value "calico": is not known`},
		{minimal + "network: {mtu: 10}", `network.mtu: value "10": is out of range`},
		{minimal + "delivery: {mode: x}", `delivery.mode: value "x": is not known`},
		{minimal + "delivery: {components: {x: oci}}", `delivery.components.x: value "oci": is not a component`},
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
		{minimal + "callback: {url: 'ftp://x'}", `callback.url: value "ftp://x": is not a usable URL`},
		{minimal + "callback: {url: 'https://u:hush@x/'}", `callback.url: value "https://...@x/": is not a usable URL`},
		{minimal + "callback: {url: 'https://x/', ca: x}", `callback.ca: value "x": holds no certificate`},
		{minimal + "roel: x", `roel: is not a known key; did you mean "role"?`},
	} {
		_, err := Parse("n", []byte(c.text))
		var ps strict.Problems
		if !errors.As(err, &ps) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\ngot  %v\nwant %s", c.text, err, c.want)
			continue
		}
		if strings.Contains(err.Error(), "hush") {
			t.Errorf("a secret is shown: %v", err)
		}
	}
}

func TestDecodingProblemsAreNotReportedTwice(t *testing.T) {
	_, err := Parse("n", []byte(minimal+"apiServer: {port: many}\nnode: {address: [1]}"))
	var ps strict.Problems
	if !errors.As(err, &ps) || len(ps) != 2 {
		t.Errorf("got %v", err)
	}
}

func TestSecretsNeverPrint(t *testing.T) {
	n, err := Parse("n", []byte(minimal+"bootstrapTokens: [{token: abcdef.0123456789abcdef}]\npki: {certificateKey: '"+strings.Repeat("ab", 32)+"'}\ncallback: {url: 'http://x/', token: hush}"))
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%v %+v %#v %s %q %x", n, n, *n, n.BootstrapTokens[0].Token, n.BootstrapTokens[0].Token, n.PKI.CertificateKey) + string(asJSON)
	for _, s := range n.Secrets() {
		if s != "" && strings.Contains(text, s) {
			t.Errorf("%q is shown", s)
		}
	}
	if all := strings.Join(n.Secrets(), " "); !strings.Contains(all, " abcdef.0123456789abcdef 0123456789abcdef") || !strings.Contains(all, "hush") {
		t.Errorf("secrets are %q", all)
	}
}

func ignitionConfig(source string) []byte {
	return fmt.Appendf(nil, `{"ignition":{"version":"3.4.0"},"storage":{"files":[{"path":"/etc/hostname","contents":{"source":"data:,x"}},{"path":"/etc/imgbuild/node.yaml","contents":%s}]}}`, source)
}

func TestFromIgnition(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString([]byte(minimal))
	// echo -n x | gzip -n
	gz := base64.StdEncoding.EncodeToString([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\x00\x00\x83\x16\xdc\x8c\x01\x00\x00\x00"))
	for name, c := range map[string]struct{ source, want, problem string }{
		"base64":  {`{"source":"data:text/yaml;base64,` + b64 + `"}`, minimal, ""},
		"escaped": {`{"source":"data:,apiVersion%3A%20x%0A"}`, "apiVersion: x\n", ""},
		"gzip":    {`{"compression":"gzip","source":"data:;base64,` + gz + `"}`, "x", ""},
		"remote":  {`{"source":"https://example.org/node.yaml"}`, "", "not inline"},
		"empty":   {`{}`, "", "no contents"},
		"broken":  {`{"source":"data:;base64,%%%"}`, "", "invalid"},
	} {
		got, err := FromIgnition("f.ign", ignitionConfig(c.source))
		if c.problem != "" {
			if !errors.Is(err, ErrIgnition) || !strings.Contains(err.Error(), c.problem) || !strings.Contains(err.Error(), "f.ign") {
				t.Errorf("%s: got %v", name, err)
			}
			continue
		}
		if err != nil || string(got) != c.want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	for name, text := range map[string]string{
		"no file":       `{"ignition":{"version":"3.4.0"}}`,
		"other version": `{"ignition":{"version":"9.0.0"}}`,
		"not JSON":      `{`,
		"bad path":      `{"ignition":{"version":"3.4.0"},"storage":{"files":[{"path":"relative"}]}}`,
	} {
		if _, err := FromIgnition("f.ign", []byte(text)); !errors.Is(err, ErrIgnition) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte(minimal + "bootstrapTokens: [{token: abcdef.0123456789abcdef}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := Parse("n", data)
		var ps strict.Problems
		if err != nil && !errors.As(err, &ps) || (n == nil) != (err != nil) {
			t.Errorf("node %v, error %T %v", n != nil, err, err)
		}
	})
}

func FuzzFromIgnition(f *testing.F) {
	f.Add(ignitionConfig(`{"source":"data:,x"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := FromIgnition("f", data); err != nil && !errors.Is(err, ErrIgnition) {
			t.Errorf("error is %v", err)
		}
	})
}

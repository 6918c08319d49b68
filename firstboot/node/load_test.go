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

	"github.com/imgbuild/imgbuild/firstboot/node/strict"
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
		{"kind: Node\nrole: worker\n", "apiVersion: is missing (allowed: imgbuild.io/v1alpha1)"},
		{strings.Replace(minimal, "Node", "Pod", 1), `n:2:7: kind: is not known (value "Pod"; allowed: Node)`},
		{strings.Replace(minimal, "control-plane", "master", 1), `n:3:7: role: is not known (value "master"; allowed: control-plane, worker)`},
		{worker, "cluster.endpoint: is missing"},
		{worker, "bootstrapTokens: is missing"},
		{worker, "join.caCertHashes: is missing"},
		{minimal + "cluster: {name: 'A b'}", "cluster.name: is not a cluster name"},
		{minimal + "cluster: {endpoint: host}", "cluster.endpoint: has no port"},
		{minimal + "cluster: {endpoint: 'host:99999'}", "cluster.endpoint: has no valid port"},
		{minimal + "cluster: {endpoint: 'a b:1'}", "cluster.endpoint: has no valid host"},
		{minimal + "cluster: {endpointMode: x}", "cluster.endpointMode: is not known"},
		{minimal + "cluster: {kubernetesVersion: '1.36'}", "cluster.kubernetesVersion: is not a Kubernetes version"},
		{minimal + "cluster: {proxyMode: x}", "cluster.proxyMode: is not known (value \"x\"; allowed: nftables, iptables, ipvs, upstream)"},
		{minimal + "cluster: {networking: {podSubnet: 10.244.0.0}}", "podSubnet: is not an address range"},
		{minimal + "cluster: {networking: {podSubnet: 10.244.1.0/16}}", "podSubnet: has bits set behind the prefix (value \"10.244.1.0/16\"; allowed: 10.244.0.0/16)"},
		{minimal + "cluster: {networking: {serviceSubnet: 10.0.0.0/8}}", "serviceSubnet: has a prefix length"},
		{minimal + "cluster: {networking: {serviceSubnet: 10.244.0.0/16}}", "overlaps cluster.networking.podSubnet"},
		{minimal + "cluster: {networking: {dnsDomain: '-'}}", "dnsDomain: is not a DNS domain"},
		{minimal + "cluster: {endpoint: 'a:1', controlPlanes: [{name: a, address: 192.0.2.1}, {name: a, address: 192.0.2.1}]}", "controlPlanes[1].name: is also the name of controlPlanes[0]"},
		{minimal + "cluster: {endpoint: 'a:1', controlPlanes: [{name: a, address: 192.0.2.1}, {name: b, address: 192.0.2.1}]}", "controlPlanes[1].address: is also the address of controlPlanes[0]"},
		{minimal + "cluster: {endpoint: 'a:1', controlPlanes: [{name: a, address: 192.0.2.1}, {name: b, address: 192.0.2.2}]}", "pki.initiator: is missing"},
		{minimal + "cluster: {controlPlanes: [{}]}", "controlPlanes[0].name: is missing"},
		{minimal + "cluster: {controlPlanes: [{}]}", "controlPlanes[0].address: is missing"},
		{minimal + "node: {name: A_b}", "node.name: is not a node name"},
		{minimal + "node: {address: 127.0.0.1}", "node.address: is not a usable IP address"},
		{minimal + "node: {address: 10.96.3.4}", "node.address: lies inside the pod or service range"},
		{minimal + "node: {interface: 'a/b'}", "node.interface: is not an interface name"},
		{minimal + "node: {labels: {'a b': c}}", "is not a label key"},
		{minimal + "node: {labels: {a: 'b c'}}", "node.labels.a: is not a label value"},
		{minimal + "node: {taints: [{key: a, effect: Sometimes}]}", "node.taints[0].effect: is not known"},
		{minimal + "node: {taints: [{effect: NoExecute}]}", "node.taints[0].key: is not a taint key"},
		{minimal + "pki: {mode: none}", "pki.mode: is not known"},
		{minimal + "pki: {algorithm: ED25519}", "pki.algorithm: is not known"},
		{minimal + "pki: {validity: 10m}", "pki.validity: is too short"},
		{minimal + "pki: {validity: 99999h, caValidity: 9h}", "pki.validity: is longer than pki.caValidity"},
		{minimal + "pki: {certificateKey: hush}", "pki.certificateKey: is not a certificate key (allowed"},
		{minimal + "bootstrapTokens: [{token: hush}]", "bootstrapTokens[0].token: is not a bootstrap token (allowed"},
		{minimal + "bootstrapTokens: [{token: abcdef.0123456789abcdef}, {token: abcdef.1123456789abcdef}]", "bootstrapTokens[1].token: has the same id"},
		{minimal + "bootstrapTokens: [{token: abcdef.0123456789abcdef, ttl: -1h}]", "bootstrapTokens[0].ttl: is negative"},
		{minimal + "bootstrapTokens: [{token: abcdef.0123456789abcdef, ttl: soon}]", "write for example 90s"},
		{minimal + "join: {caCertHashes: [x]}", "join.caCertHashes[0]: is not a CA hash"},
		{minimal + "apiServer: {port: 70000}", "apiServer.port: is not a port"},
		{minimal + "apiServer: {certSANs: ['a b']}", "apiServer.certSANs[0]: is neither"},
		{minimal + "etcd: {heartbeatInterval: 1m}", "etcd.heartbeatInterval: is out of range"},
		{minimal + "etcd: {heartbeatInterval: 1s, electionTimeout: 2s}", "etcd.electionTimeout: is less than 5 heartbeats"},
		{minimal + "etcd: {electionTimeout: 1h}", "etcd.electionTimeout: is out of range"},
		{minimal + "kubelet: {maxPods: -1}", "kubelet.maxPods: is negative"},
		{minimal + "kubelet: {resolvConf: x}", "kubelet.resolvConf: is not an absolute path"},
		{minimal + "network: {provider: calico}", "network.provider: is not known"},
		{minimal + "network: {mtu: 10}", "network.mtu: is out of range"},
		{minimal + "delivery: {mode: x}", "delivery.mode: is not known"},
		{minimal + "delivery: {components: {x: oci}}", "delivery.components.x: is not a component"},
		{minimal + "delivery: {components: {etcd: x}}", "delivery.components.etcd: is not known"},
		{minimal + "delivery: {images: {x: y}}", "delivery.images.x: is not a component"},
		{minimal + "vip: {provider: x}", "vip.provider: is not known"},
		{minimal + "vip: {address: 192.0.2.9}", "vip.address: has no vip.provider"},
		{minimal + "vip: {provider: keepalived}", "vip.address: is missing"},
		{minimal + "vip: {provider: kube-vip, address: 192.0.2.9}", "vip.image: is missing"},
		{minimal + "node: {address: 192.0.2.9}\nvip: {provider: external, address: 192.0.2.9}", "vip.address: is also node.address"},
		{minimal + "vip: {provider: keepalived, address: 192.0.2.9, routerID: 300, priority: 255}", "vip.routerID: is out of range"},
		{minimal + "vip: {provider: keepalived, address: 192.0.2.9, loadBalancer: x}", "vip.loadBalancer: is not known"},
		{minimal + "timeouts: {nodeReady: 1ms}", "timeouts.nodeReady: is too short"},
		{minimal + "callback: {url: 'ftp://x'}", "callback.url: is not a usable URL"},
		{minimal + "callback: {url: 'https://u:p@x/'}", "callback.url: is not a usable URL"},
		{minimal + "callback: {url: 'https://x/', ca: x}", "callback.ca: holds no certificate"},
		{minimal + "roel: x", "roel: unknown key, did you mean role?"},
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

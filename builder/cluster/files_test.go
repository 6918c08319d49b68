// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

func TestNetworkFiles(t *testing.T) {
	for _, c := range []struct {
		name, network string
		want          map[string]string // by the end of the file name: text that has to be in it
		absent        string
	}{
		{"static", "", map[string]string{"uplink.network": "[Match]\nMACAddress=52:54:00:00:00:01\nType=ether\nKind=!*\n\n[Network]\nLLDP=no\nDHCP=no\nAddress=192.0.2.11/24\nGateway=192.0.2.1\n"}, "[DHCPv4]"},
		{"named", "interface: eth1, mtu: 9000, dns: [192.0.2.2, 192.0.2.3]", map[string]string{"uplink.network": "[Match]\nName=eth1\n\n[Link]\nMTUBytes=9000\n\n[Network]\nLLDP=no\nDHCP=no\nAddress=192.0.2.11/24\nGateway=192.0.2.1\nDNS=192.0.2.2\nDNS=192.0.2.3\n"}, "MACAddress"},
		{"vlan", "vlan: 100", map[string]string{"vlan.netdev": "[NetDev]\nName=vlan100\nKind=vlan\n\n[VLAN]\nId=100\n", "uplink.network": "VLAN=vlan100\nLinkLocalAddressing=no\n", "vlan.network": "[Match]\nName=vlan100\n\n[Network]\nLLDP=no\nDHCP=no\nAddress=192.0.2.11/24\n"}, ""},
		{"bond", "bond: {mode: 802.3ad, members: [eno1, eno2, '52:54:00:AA:00:01']}", map[string]string{
			"bond.netdev": "Name=bond0\nKind=bond\n\n[Bond]\nMode=802.3ad\n", "member-name.network": "[Match]\nName=eno1 eno2\n\n[Network]\nBond=bond0\n",
			"member-permanentmac.network": "PermanentMACAddress=52:54:00:aa:00:01\nKind=!*\n\n[Network]\nBond=bond0\n", "uplink.network": "[Match]\nName=bond0\n\n[Network]\n"}, ""},
		{"dhcp on a bond", "addressing: dhcp, bond: {members: [eno1]}", map[string]string{"uplink.network": "DHCP=yes\n", "bond.netdev": "Mode=active-backup\n", "member-name.network": "Name=eno1\n"}, "Address=192"},
	} {
		text := strings.Replace(base, "address: 192.0.2.11,", "address: 192.0.2.11, network: {"+c.network+"},", 1)
		files := map[string]string{}
		for _, f := range networkFiles(&parse(t, text).Cluster.Hosts[0]) {
			files[strings.TrimPrefix(f.path, networkDir+"/10-cp-1-")] = string(f.data)
		}
		if len(files) != len(c.want) {
			t.Errorf("%s: %d files", c.name, len(files))
		}
		for name, want := range c.want {
			if !strings.Contains(files[name], want) || c.absent != "" && strings.Contains(files[name], c.absent) {
				t.Errorf("%s: %s is\n%swant\n%s", c.name, name, files[name], want)
			}
		}
	}
	if files := networkFiles(&parse(t, with("hostNetwork: {}")).Cluster.Hosts[0]); len(files) != 0 {
		t.Errorf("plain DHCP is what the image does: %v", files)
	}
	// A host's own 0 takes back what all have.
	text := strings.Replace(with("hostNetwork: {vlan: 100, mtu: 9000}"), "address: 192.0.2.11,", "address: 192.0.2.11, network: {vlan: 0, mtu: 0},", 1)
	if hosts := parse(t, text).Cluster.Hosts; len(networkFiles(&hosts[0])) != 0 || len(networkFiles(&hosts[1])) == 0 {
		t.Errorf("%v, %v", networkFiles(&hosts[0]), networkFiles(&hosts[1]))
	}
}

// hostsTOML is what containerd reads, in the order of the file.
type hostsTOML struct {
	Server       string
	CA           string
	Capabilities []string
	Header       map[string]string
	Host         map[string]struct {
		CA           string
		Capabilities []string
		OverridePath bool `toml:"override_path"`
		Header       map[string]string
	}
}

func TestRegistryFiles(t *testing.T) {
	s := parse(t, with(`registries:
- host: docker.io
  mirrors: [{url: "https://m1.example.org/v2/hub", overridePath: true, caFile: ca.pem, credentialsFile: auth}, {url: "https://m2.example.org:5000"}]
- {host: "*", mirrors: [{url: "https://m1.example.org"}, {url: "https://m2.example.org", caFile: ca.pem, credentialsFile: auth}]}
- {host: "registry.example.org:5000", fallback: false, mirrors: [{url: "http://m3.example.org"}]}`),
		"ca.pem", someCA(t), "auth", "robot:s3cret\n")
	files := map[string]file{}
	for _, f := range s.registryFiles() {
		files[strings.TrimPrefix(f.path, registryDir+"/")] = f
	}
	read := func(name string) (out hostsTOML, order []string) {
		meta, err := toml.Decode(string(files[name+"/hosts.toml"].data), &out)
		if err != nil || len(meta.Undecoded()) > 0 {
			t.Fatalf("%s: %v, not known: %v", name, err, meta.Undecoded())
		}
		for _, k := range meta.Keys() {
			if len(k) == 2 && k[0] == "host" {
				order = append(order, k[1])
			}
		}
		return out, order
	}
	hub, order := read("docker.io")
	m1 := hub.Host["https://m1.example.org/v2/hub"]
	if hub.Server != "https://registry-1.docker.io" || strings.Join(order, " ") != "https://m1.example.org/v2/hub https://m2.example.org:5000" ||
		!m1.OverridePath || m1.CA != "mirror-0.pem" || m1.Header["Authorization"] != "Basic cm9ib3Q6czNjcmV0" || len(m1.Capabilities) != 2 {
		t.Errorf("%+v, %v", hub, order)
	}
	if files["docker.io/hosts.toml"].mode != 0o600 || files["docker.io/mirror-0.pem"].mode != 0o644 {
		t.Error("modes")
	}
	all, order := read("_default")
	if all.Server != "https://m2.example.org" || all.CA != "server.pem" || all.Header["Authorization"] == "" || len(order) != 1 {
		t.Errorf("%+v, %v", all, order)
	}
	if own, order := read("registry.example.org:5000"); own.Server != "http://m3.example.org" || len(order) != 0 {
		t.Errorf("%+v", own)
	}
}

func TestHostsFileAndTime(t *testing.T) {
	s := parse(t, with("endpoint: {name: api.demo.example.org}"))
	text := string(s.Cluster.hostsFile())
	for _, want := range []string{"127.0.0.1 localhost\n", "192.0.2.10 api.demo.example.org\n", "192.0.2.21 w-1\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	local := strings.Replace(strings.Replace(base, "vip: {provider: keepalived, address: 192.0.2.10}\n", "timeServers: [ntp.example.org, 192.0.2.3]\n", 1), "mode: vip", "mode: local", 1)
	dir := t.TempDir()
	rendered(t, parse(t, local), dir)
	h := readHost(t, dir, "hosts/w-1.ign")
	if n := h.document(t); n.Cluster.Endpoint != "api.demo.internal:7443" || len(n.Cluster.ControlPlanes) != 3 {
		t.Errorf("%+v", n.Cluster)
	}
	if text, _ := h.file(t, "/etc/hosts"); !strings.Contains(text, "127.0.0.1 api.demo.internal\n") {
		t.Error(text)
	}
	if text, _ := h.file(t, "/etc/systemd/timesyncd.conf.d/10-imgbuild.conf"); text != "[Time]\nNTP=ntp.example.org 192.0.2.3\nFallbackNTP=\n" {
		t.Errorf("%q", text)
	}
	if conf := read(t, dir, KubeconfigFile); !strings.Contains(conf, "server: https://192.0.2.11:6443\n") {
		t.Errorf("people cannot reach 127.0.0.1 of a host:\n%s", conf)
	}
}

func TestSnippetsMerge(t *testing.T) {
	snippet := func(text string) string {
		return "variant: fcos\nversion: 1.6.0\nstorage:\n  files:\n    - {path: /etc/motd, overwrite: true, contents: {inline: " + text + "}}\n    - {path: /etc/" + text + ", contents: {local: data}}\n"
	}
	s := parse(t, with("butane: [all.bu]\nroles: {worker: {butane: [role.bu], labels: {a: role, b: role}}}")+
		"- {name: w-2, role: worker, address: 192.0.2.22, match: {serial: S2}, butane: [host.bu], labels: {b: host}, kubelet: {maxPods: 9}, network: {interface: eth0}}\n",
		"all.bu", snippet("all"), "role.bu", snippet("role"), "host.bu", snippet("host"), "data", "local data")
	dir := t.TempDir()
	rendered(t, s, dir)
	for name, motd := range map[string]string{"cp-1": "all", "w-1": "role", "w-2": "host"} {
		h := readHost(t, dir, "hosts/"+name+".ign")
		if got, _ := h.file(t, "/etc/motd"); got != motd {
			t.Errorf("%s: the most special snippet has to win: %q", name, got)
		}
		if got, _ := h.file(t, "/etc/all"); got != "local data" {
			t.Errorf("%s: %q", name, got)
		}
	}
	n := readHost(t, dir, "hosts/w-2.ign").document(t)
	if n.Node.Labels["a"] != "role" || n.Node.Labels["b"] != "host" || n.Kubelet.MaxPods != 9 {
		t.Errorf("%+v", n)
	}
}

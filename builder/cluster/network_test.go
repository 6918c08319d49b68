// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"io"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/rootfs/rootfstest"
	"github.com/imgbuild/imgbuild/builder/tree"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// programs returns files of the worker image's locked packages, one after the other.
func programs(t *testing.T, patterns ...string) (all []byte) {
	t.Helper()
	root := tree.New()
	for _, p := range rootfstest.Load(t, "worker").Root {
		if p.Name != "systemd" && p.Name != "systemd-timesyncd" && p.Name != "libsystemd-shared" {
			continue
		}
		if err := p.AddTo(root); err != nil {
			t.Fatal(err)
		}
	}
	for _, pattern := range patterns {
		found := false
		for _, n := range root.Nodes() {
			if ok, err := path.Match(pattern, n.Path); err != nil || !ok {
				continue
			}
			found = true
			r, err := n.Content.Open()
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(r)
			_ = r.Close()
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, data...)
		}
		if !found {
			t.Fatalf("no package has %s", pattern)
		}
	}
	return all
}

// everyNetwork is a cluster whose hosts together use everything that network files can say.
const everyNetwork = `apiVersion: imgbuild.io/v1alpha1
kind: Cluster
name: demo
endpoint: {name: api.example.org}
timeServers: [ntp.example.org, 192.0.2.3]
hostNetwork: {subnet: 192.0.2.0/24, gateway: 192.0.2.1, dns: [192.0.2.2], mtu: 9000}
hosts:
- {name: cp-1, role: control-plane, address: 192.0.2.11, network: {addressing: static, bond: {mode: 802.3ad, members: [eno1, "52:54:00:00:00:01"]}, vlan: 7}}
- {name: w-1, role: worker, network: {bond: {members: [eno1]}}}
- {name: w-2, role: worker, match: {mac: "52:54:00:00:00:02"}}
- {name: w-3, role: worker, network: {bond: {mode: balance-rr, members: [eno1]}}}
- {name: w-4, role: worker, network: {bond: {mode: balance-xor, members: [eno1]}}}
- {name: w-5, role: worker, network: {bond: {mode: broadcast, members: [eno1]}}}
- {name: w-6, role: worker, network: {bond: {mode: balance-tlb, members: [eno1]}}}
- {name: w-7, role: worker, network: {bond: {mode: balance-alb, members: [eno1]}}}
`

// The programs that read these files ignore what they do not know, with a line in the log that
// nobody sees. So every section and key is looked for in the table that the program itself
// parses with, and every word among its strings.
func TestNetworkdAndTimesyncdKnowEveryKey(t *testing.T) {
	// Names of modes are in the library that systemd's programs share.
	networkd := programs(t, "/usr/lib/systemd/systemd-networkd", "/usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-*.so")
	timesyncd := programs(t, "/usr/lib/systemd/systemd-timesyncd")
	s := parse(t, everyNetwork)
	seen := map[string]bool{}
	look := func(f file) {
		table := networkd
		if strings.HasPrefix(f.path, "/etc/systemd/timesyncd") {
			table = timesyncd
		}
		section := ""
		for line := range strings.SplitSeq(strings.TrimSpace(string(f.data)), "\n") {
			switch key, value, ok := strings.Cut(line, "="); {
			case strings.HasPrefix(line, "["):
				section = strings.Trim(line, "[]")
			case line == "":
			case !ok:
				t.Errorf("%s: %q is not an assignment", f.path, line)
			default:
				seen[section+"."+key] = true
				if !bytes.Contains(table, []byte(section+"."+key+"\x00")) {
					t.Errorf("%s: the program knows no %s in [%s]", f.path, key, section)
				}
				words := []string{"NetDev.Kind", "Bond.Mode", "Bond.TransmitHashPolicy", "DHCPv4.ClientIdentifier"}
				if slices.Contains(words, section+"."+key) && !bytes.Contains(table, []byte(value+"\x00")) {
					t.Errorf("%s: the program knows no %s=%s", f.path, key, value)
				}
			}
		}
	}
	for i := range s.Cluster.Hosts {
		for _, f := range networkFiles(&s.Cluster.Hosts[i]) {
			look(f)
		}
	}
	for _, f := range s.commonFiles("worker") {
		if strings.HasPrefix(f.path, "/etc/systemd/") {
			look(f)
		}
	}
	for _, key := range []string{"Match.PermanentMACAddress", "Network.VLAN", "VLAN.Id", "Bond.MIIMonitorSec", "Time.FallbackNTP", "Link.MTUBytes", "Network.DNS"} {
		if !seen[key] {
			t.Errorf("no file has %s: the example lost it", key)
		}
	}
	if bytes.Contains(networkd, []byte("Network.Vlan\x00")) {
		t.Error("any key would be found")
	}
}

// The order of files is part of a config: what is rendered twice has to be the same.
func TestNetworkFilesAreAlwaysTheSame(t *testing.T) {
	dir := t.TempDir()
	rendered(t, parse(t, everyNetwork), dir)
	for range 8 {
		if got := actions(rendered(t, parse(t, everyNetwork), dir)); len(got) > 0 {
			t.Fatalf("rendered again: %v", got)
		}
	}
}

func TestUplinkMAC(t *testing.T) {
	for name, c := range map[string]struct {
		host Host
		want string
	}{
		"the host's":                {Host{Match: node.Match{MAC: "52:54:00:00:00:0A"}}, "52:54:00:00:00:0a"},
		"a bond's first by address": {Host{Match: node.Match{MAC: "52:54:00:00:00:0A"}, Network: HostNetwork{Bond: &Bond{Members: []string{"eno1", "52:54:00:00:00:0B", "52:54:00:00:00:0C"}}}}, "52:54:00:00:00:0b"},
		"the host's in a bond":      {Host{Match: node.Match{MAC: "52:54:00:00:00:0C"}, Network: HostNetwork{Bond: &Bond{Members: []string{"52:54:00:00:00:0B", "52:54:00:00:00:0c"}}}}, "52:54:00:00:00:0c"},
		"of a bond by names":        {Host{Match: node.Match{MAC: "52:54:00:00:00:0A"}, Network: HostNetwork{Bond: &Bond{Members: []string{"eno1"}}}}, "52:54:00:00:00:0a"},
		"nobody says":               {Host{}, ""},
	} {
		if got := uplinkMAC(&c.host); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

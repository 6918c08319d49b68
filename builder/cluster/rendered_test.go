// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// refused renders what has to be refused in class Config, with all of want in the message and
// nothing changed.
func refused(t *testing.T, text, dir string, want ...string) {
	t.Helper()
	before := read(t, dir, SecretsFile)
	_, err := Render(t.Context(), parse(t, text), Options{Dir: dir, Now: now})
	if err == nil || fault.ClassOf(err) != fault.Config || !strings.Contains(err.Error(), "\n  next: ") {
		t.Errorf("%v", err)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("no %q in %v", w, err)
		}
	}
	if read(t, dir, SecretsFile) != before {
		t.Error("a rendering that was refused left something")
	}
}

// forget takes away what a directory of an earlier release does not have.
func forget(t *testing.T, dir string) {
	t.Helper()
	put(t, dir, SecretsFile, []byte(regexp.MustCompile(`(?s)\nrendered:.*`).ReplaceAllString(read(t, dir, SecretsFile), "\n")))
}

// What hosts that run have been given cannot be another for those that are added. The record
// outlives the index; in directories of earlier releases the configs have it.
func TestSettingsOfARunningCluster(t *testing.T) {
	local := strings.Replace(strings.Replace(base, "vip: {provider: keepalived, address: 192.0.2.10}\n", "", 1), "mode: vip", "mode: local", 1)
	for _, c := range []struct {
		first, then string
		want        []string
	}{
		{base, with("networking: {podSubnet: 10.245.0.0/16, serviceSubnet: 10.112.0.0/12, dnsDomain: k8s.test}"), []string{
			`cluster.yaml:6:25: networking.podSubnet: value "10.245.0.0/16": was 10.244.0.0/16 when hosts were rendered`,
			`networking.serviceSubnet: value "10.112.0.0/12": was 10.96.0.0/12`, `networking.dnsDomain: value "k8s.test": was cluster.local`, "another directory"}},
		{base, with("endpoint: {mode: vip, name: api.example.org}"), []string{"endpoint: was 192.0.2.10:6443 when hosts were rendered, and is api.example.org:6443 now"}},
		{alone + "endpoint: {name: api.example.org}", alone, []string{"endpoint: was api.example.org:6443 when hosts were rendered, and is 192.0.2.11:6443 now"}},
		{base, with("apiServer: {port: 7443}"), []string{`apiServer.port: value "7443": was 6443`, "endpoint: was"}},
		{base, with("vip: {provider: keepalived, address: 192.0.2.9}"), []string{`vip.address: value "192.0.2.9": was 192.0.2.10`}},
		{base, with("vip: {provider: keepalived, address: 192.0.2.10, routerID: 7}"), []string{`vip.routerID: value "7": was `}},
		{with("vip: {provider: keepalived, address: 192.0.2.10, routerID: 7}"), base, []string{`vip.routerID: was 7 when hosts were rendered, and is `}},
		{base, with("vip: {provider: keepalived, address: 192.0.2.9, routerID: 7}"), []string{`vip.address: value "192.0.2.9": was 192.0.2.10`, `vip.routerID: value "7": was `}},
		{base, with("vip: {provider: external, address: 192.0.2.10}"), []string{`vip.provider: value "external": was keepalived`}},
		{base, local, []string{"endpoint.mode", "was vip", "vip.address: was 192.0.2.10 when hosts were rendered, and is none now"}},
		{local, strings.Replace(local, "mode: local", "mode: local, port: 7555", 1), []string{"endpoint: was api.demo.internal:7443"}},
		{base, strings.Replace(base, "192.0.2.12", "192.0.2.99", 1), []string{`hosts[1].address: value "192.0.2.99": was 192.0.2.12 when cp-2 was rendered`, "first take the host out"}},
		{base, strings.NewReplacer("192.0.2.12", "192.0.2.13", "192.0.2.13", "192.0.2.12").Replace(base), []string{"hosts[1].address", "hosts[2].address"}},
		{base, strings.Replace(base, "w-1, role: worker", "w-1, role: control-plane", 1), []string{`hosts[3].role: value "control-plane": was worker when w-1 was rendered`, "wiped"}},
		{base, strings.Replace(base, "cp-3, role: control-plane", "cp-3, role: worker", 1), []string{`hosts[2].role: value "worker": was control-plane`, "first take the host out"}},
	} {
		for name, spoil := range map[string]func(dir string){
			"": func(string) {}, "no index": func(dir string) { drop(t, dir, IndexFile) }, "earlier release": func(dir string) { forget(t, dir) },
			"earlier release, no index": func(dir string) { forget(t, dir); drop(t, dir, IndexFile) },
		} {
			dir := t.TempDir()
			rendered(t, parse(t, c.first), dir)
			spoil(dir)
			t.Run(name, func(t *testing.T) { refused(t, c.then, dir, c.want...) })
		}
	}
	// The way that the message names: out, and in again.
	dir := t.TempDir()
	rendered(t, parse(t, base), dir)
	rendered(t, parse(t, hostsOf("cp-1 cp-2 w-1")), dir)
	rendered(t, parse(t, strings.Replace(base, "cp-3, role: control-plane", "cp-3, role: worker", 1)), dir)
	// A router id that is written out is the one that it would be.
	dir = t.TempDir()
	rendered(t, parse(t, base), dir)
	rendered(t, parse(t, with(fmt.Sprintf("vip: {provider: keepalived, address: 192.0.2.10, routerID: %d}", node.RouterID("192.0.2.10")))), dir)
	for _, then := range []string{"vip: {provider: keepalived, address: 192.0.2.9}", "vip: {provider: external, address: 192.0.2.10}"} {
		if _, err := Render(t.Context(), parse(t, with(then)), Options{Dir: dir, Now: now}); err == nil || strings.Contains(err.Error(), "routerID") {
			t.Errorf("%s: %v", then, err)
		}
	}
	// The same range in other words is the same.
	v6 := strings.NewReplacer("10.244.0.0/16}", "'fd00:10::/48', serviceSubnet: 'fd00:96::/112'}", "192.0.2.0/24", "'2001:db8::/64'", "192.0.2.", "2001:db8::").Replace(base)
	dir = t.TempDir()
	rendered(t, parse(t, v6), dir)
	rendered(t, parse(t, strings.Replace(v6, "fd00:10::/48", "FD00:0010::/48", 1)), dir)
}

// A directory of an earlier release gets the record, and is complete with it.
func TestRecordIsMadeInDirectoriesOfEarlierReleases(t *testing.T) {
	for _, lost := range []string{"", IndexFile, "hosts"} {
		dir := t.TempDir()
		rendered(t, parse(t, base), dir)
		whole := read(t, dir, SecretsFile)
		forget(t, dir)
		if lost != "" {
			drop(t, dir, lost)
		}
		r := rendered(t, parse(t, base), dir)
		if got := actions(r); got[SecretsFile] != Changed || read(t, dir, SecretsFile) != whole || len(r.Next) > 0 {
			t.Errorf("%s: %v, %q", lost, got, r.Next)
		}
	}
}

// The endpoint of a cluster whose file does not name it depends on how many control planes there
// are: the one that was rendered stays.
func TestEndpointStaysWhenTheClusterGrows(t *testing.T) {
	three := strings.Replace(alone, "hosts: [", "hosts: [{name: b, role: control-plane, address: 192.0.2.12}, {name: c, role: control-plane, address: 192.0.2.13}, ", 1)
	endpoint := func(dir, host string) string {
		n := readHost(t, dir, "hosts/"+host+".ign").document(t)
		return string(n.Cluster.EndpointMode) + " " + n.Cluster.Endpoint
	}
	dir := t.TempDir()
	rendered(t, parse(t, alone), dir)
	r := rendered(t, parse(t, three), dir)
	if got := endpoint(dir, "b"); got != "direct 192.0.2.11:6443" {
		t.Error(got)
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0].Error(), "endpoint: stays 192.0.2.11:6443, the address of a alone") {
		t.Errorf("%v", r.Warnings)
	}
	if conf := read(t, dir, KubeconfigFile); !strings.Contains(conf, "server: https://192.0.2.11:6443\n") {
		t.Error(conf)
	}
	refused(t, strings.Replace(three, ", {name: a, role: control-plane, address: 192.0.2.11}", "", 1), dir, "no control plane with the address 192.0.2.11")
	refused(t, strings.Replace(three, "name: demo", "name: demo\nendpoint: {mode: local}", 1), dir, `endpoint.mode: value "local": was direct when hosts were rendered`)

	dir = t.TempDir()
	rendered(t, parse(t, three), dir)
	rendered(t, parse(t, alone), dir)
	if got := endpoint(dir, "a"); got != "local api.demo.internal:7443" {
		t.Error(got)
	}
	// What the caller read is as it was.
	if s := parse(t, alone); s.Cluster.Endpoint.Mode != node.EndpointDirect {
		t.Error(s.Cluster.Endpoint)
	} else if rendered(t, s, dir); s.Cluster.Endpoint.Mode != node.EndpointDirect {
		t.Error("rendering changed its source")
	}
}

func TestAuthoritiesKeepWhatTheyBeganWith(t *testing.T) {
	dir := t.TempDir()
	rendered(t, parse(t, base), dir)
	for range 2 {
		r := rendered(t, parse(t, with("pki: {mode: shared, algorithm: RSA-2048, caValidity: 99999h}")), dir)
		if len(r.Warnings) != 2 || !strings.Contains(r.Warnings.Error(), `pki.algorithm: value "RSA-2048": was ECDSA-P256 when hosts were rendered`) || !strings.Contains(r.Warnings.Error(), "pki.caValidity") {
			t.Errorf("%v", r.Warnings)
		}
	}
	if r := rendered(t, parse(t, base), dir); len(r.Warnings) > 0 {
		t.Errorf("%v", r.Warnings)
	}
}

// An operator can change in a cluster what a rendering cannot: that is said once, and taken.
func TestWhatAnOperatorChangesInTheCluster(t *testing.T) {
	dir := t.TempDir()
	rendered(t, parse(t, base), dir)
	changed := strings.Replace(with("podNetwork: {provider: none}"), "{podSubnet: 10.244.0.0/16", "{proxyMode: ipvs, podSubnet: 10.244.0.0/16", 1)
	said := rendered(t, parse(t, changed), dir).Warnings.Error()
	for _, want := range []string{`networking.proxyMode: value "ipvs": was nftables when hosts were rendered`,
		`podNetwork.provider: value "none": was flannel when hosts were rendered: the cluster and the hosts that run keep it, and hosts that are added are made for none`} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in %s", want, said)
		}
	}
	if r := rendered(t, parse(t, changed), dir); strings.Contains(r.Warnings.Error(), "when hosts were rendered") {
		t.Errorf("%v", r.Warnings)
	}
	if n := readHost(t, dir, "hosts/cp-1.ign").document(t); n.Cluster.ProxyMode != node.ProxyIPVS || n.Network.Provider != node.NetworkNone {
		t.Errorf("%+v, %+v", n.Cluster, n.Network)
	}
}

// Before the first config there is nothing that could not change.
func TestNothingIsSettledWithoutConfigs(t *testing.T) {
	dir := t.TempDir()
	rendered(t, parse(t, with("pki: {mode: external}")), dir)
	newOffline(t, dir, now)
	rendered(t, parse(t, with("pki: {mode: external}")), dir)
	newOffline(t, dir, now)
	text := strings.Replace(with("pki: {mode: external}"), "10.244.0.0/16", "10.245.0.0/16, serviceSubnet: 10.112.0.0/12", 1)
	if r := rendered(t, parse(t, text), dir); len(r.Pending) == 0 {
		t.Error("no request")
	}
}

// Who began the cluster stays the initiator, whatever is first in the file.
func TestInitiatorStays(t *testing.T) {
	dir := t.TempDir()
	generate := func(text string) string { return strings.Replace(text, "mode: shared", "mode: generate", 1) }
	rendered(t, parse(t, generate(base)), dir)
	first := "hosts:\n- {name: cp-0, role: control-plane, address: 192.0.2.30, match: {serial: x0}}\n"
	for _, spoil := range []func(){func() {}, func() { drop(t, dir, IndexFile) }, func() { forget(t, dir) }} {
		spoil()
		rendered(t, parse(t, strings.Replace(generate(base), "hosts:\n", first, 1)), dir)
		for _, name := range []string{"cp-0", "cp-1", "cp-3"} {
			if n := readHost(t, dir, "hosts/"+name+".ign").document(t); n.PKI.Initiator != "cp-1" || !slices.Equal(n.Cluster.Founders, []string{"cp-1"}) {
				t.Errorf("%s: initiator %s, founders %v", name, n.PKI.Initiator, n.Cluster.Founders)
			}
		}
	}
	chosen := func(text, who string) string {
		return strings.Replace(text, "mode: generate", "mode: generate, initiator: "+who, 1)
	}
	refused(t, chosen(generate(base), "cp-2"), dir, `pki.initiator: value "cp-2": is not cp-1, which made the authorities`, "once cp-1 is taken out of hosts")
	rendered(t, parse(t, chosen(generate(base), "cp-1")), dir)
	// With it gone, one that joined takes its place; never one that is new.
	refused(t, chosen(generate(hostsOf("cp-2 cp-3 w-1", "cp-4")), "cp-4"), dir, "is not cp-2")
	rendered(t, parse(t, chosen(generate(hostsOf("cp-2 cp-3 w-1")), "cp-3")), dir)
	if n := readHost(t, dir, "hosts/cp-2.ign").document(t); n.PKI.Initiator != "cp-3" {
		t.Errorf("initiator %s", n.PKI.Initiator)
	}
}

// Authorities and keys that somebody replaced are not those that hosts trust.
func TestReplacedAuthoritiesAreRefused(t *testing.T) {
	m := &pki.Maker{Algorithm: node.ECDSAP256, CAValidity: 99999 * time.Hour, Now: now}
	for _, spec := range append(authoritySpecs(), pki.Spec{Name: pki.ServiceAccount}) {
		dir := t.TempDir()
		rendered(t, parse(t, base), dir)
		drop(t, dir, IndexFile)
		key, err := m.Key()
		if err != nil {
			t.Fatal(err)
		}
		text, err := pki.KeyPEM(key)
		if err != nil {
			t.Fatal(err)
		}
		put(t, dir, "pki/"+spec.Name+".key", text)
		want := "pki/" + spec.Name + ".key"
		if spec.Name != pki.ServiceAccount {
			ca, err := m.Authority(spec, key)
			if err != nil {
				t.Fatal(err)
			}
			put(t, dir, "pki/"+spec.Name+".crt", ca.CertPEM())
			want = "pki/" + spec.Name + ".crt"
		}
		refused(t, base, dir, want+": not what hosts were rendered with", "backup", "another directory")
		if read(t, dir, "pki/"+spec.Name+".key") != string(text) {
			t.Errorf("%s was rewritten", spec.Name)
		}
	}
}

// With pki.mode generate the authority is the cluster's. Another one is taken when the one that is
// known was removed and rendered without, as the message says.
func TestAuthorityOfTheNextCluster(t *testing.T) {
	dir := t.TempDir()
	text := strings.Replace(base, "mode: shared", "mode: generate", 1)
	rendered(t, parse(t, text), dir)
	take := func() {
		newOffline(t, dir, now)
		for _, name := range []string{"pki/etcd", "pki/front-proxy-ca.crt"} {
			drop(t, dir, name)
		}
	}
	take()
	rendered(t, parse(t, text), dir)
	take()
	refused(t, text, dir, "pki/ca.crt: not what hosts were rendered with", "remove "+dir+"/pki/ca.crt and "+dir+"/admin.conf, and render again")
	drop(t, dir, "pki/ca.crt")
	rendered(t, parse(t, text), dir)
	take()
	rendered(t, parse(t, text), dir)

	// The administrator's key is nobody's but this directory's.
	key := read(t, dir, "pki/admin.key")
	drop(t, dir, "pki/admin.key")
	for _, spoil := range []func(){func() {}, func() { drop(t, dir, IndexFile) }, func() { forget(t, dir) }} {
		spoil()
		refused(t, text, dir, "pki/admin.key is missing", "backup")
		if _, err := os.Stat(dir + "/pki/admin.key"); !errors.Is(err, os.ErrNotExist) {
			t.Error("it was made anew")
		}
	}
	put(t, dir, "pki/admin.key", []byte(key))
	rendered(t, parse(t, text), dir)
	put(t, dir, "pki/admin.key", []byte(read(t, dir, "pki/admin.key")[:60]))
	refused(t, text, dir, "pki/admin.key: ", "backup")
	other := t.TempDir()
	rendered(t, parse(t, text), other)
	put(t, dir, "pki/admin.key", []byte(read(t, other, "pki/admin.key")))
	refused(t, text, dir, "pki/admin.key: not what hosts were rendered with")
}

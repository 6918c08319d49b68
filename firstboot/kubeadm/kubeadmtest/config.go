// SPDX-License-Identifier: Apache-2.0

// Package kubeadmtest is the reference cluster that tests of the generators share: the
// configuration for which stock kubeadm's results are known, and golden file comparison.
package kubeadmtest

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// Now is the moment of the reference cluster's first boot.
var Now = time.Date(2026, 11, 21, 11, 45, 14, 0, time.UTC)

// Document returns the reference cluster's first control plane as a node document, delivered
// as upstream images and otherwise as kubeadm's own defaults have it.
func Document() *node.Node {
	ttl := node.Duration(24 * time.Hour)
	n := &node.Node{
		APIVersion: node.APIVersion, Kind: node.Kind, Role: node.ControlPlane,
		Cluster: node.Cluster{Endpoint: "192.0.2.10:6443", KubernetesVersion: "v1.36.3", ProxyMode: node.ProxyUpstream},
		Node:    node.Machine{Name: "cp-1"},
		PKI:     node.PKI{Algorithm: node.RSA2048},
		BootstrapTokens: []node.BootstrapToken{
			{Token: "abcdef.0123456789abcdef", Description: "golden test token", TTL: &ttl}},
		Delivery: node.Delivery{Mode: node.DeliveryOCI},
	}
	node.SetDefaults(n)
	return n
}

// Config resolves Document after edits were applied.
func Config(t testing.TB, edits ...func(*node.Node)) *kubeadm.Config {
	t.Helper()
	n := Document()
	for _, e := range edits {
		e(n)
	}
	c, err := kubeadm.New(n, Host())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Host is the reference machine.
func Host() kubeadm.Host {
	return kubeadm.Host{Hostname: "cp-1", Address: netip.MustParseAddr("192.0.2.11"), KubernetesVersion: "v1.36.3", Now: Now}
}

// Verity selects the product's own delivery.
func Verity(n *node.Node) { n.Delivery.Mode = node.DeliveryVerity }

var update = flag.Bool("update", false, "rewrite golden files, and fail so that it is noticed")

// Golden compares got with testdata/name. With -update it rewrites the file and fails.
func Golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Errorf("rewrote %s; review the change and run again without -update", path)
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != string(got) {
		w, g := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
		for i := range max(len(w), len(g)) {
			a, b := line(w, i), line(g, i)
			if a != b {
				t.Fatalf("%s:%d: got %q, want %q", path, i+1, b, a)
			}
		}
	}
}

func line(l []string, i int) string {
	if i < len(l) {
		return l[i]
	}
	return "(end of file)"
}

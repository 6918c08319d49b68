// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	ignition "github.com/coreos/ignition/v2/config/v3_5"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

// TestStockDocuments reads the node documents of TestJoinStock without booting anything.
func TestStockDocuments(t *testing.T) {
	for _, m := range stockNetwork[1:] {
		text := fmt.Sprintf(stockDocument, m.role, controlPlanesOf(m.role), m.name, m.address, "sha256:"+strings.Repeat("0", 64))
		n, err := node.Parse(m.name, []byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if n.Role != m.role || n.Node.Name != m.name || n.Network.Provider != node.NetworkNone || (n.PKI.Initiator == "stock-cp") != (m.role == node.ControlPlane) {
			t.Errorf("%s: %+v", m.name, n)
		}
	}
}

// TestRenderForStock renders the cluster of TestStockJoins without booting it.
func TestRenderForStock(t *testing.T) {
	e := need(t)
	dir := t.TempDir()
	ix, pkiDir := e.renderForStock(t, dir)
	config := read(t, filepath.Join(dir, ix.Hosts[0].Ignition))
	cfg, report, err := ignition.Parse(config)
	if err != nil || report.IsFatal() {
		t.Fatalf("%v\n%s", err, report)
	}
	paths := map[string]int{}
	for _, f := range cfg.Storage.Files {
		paths[f.Path]++
	}
	for _, want := range []string{node.Path, "/etc/kubernetes/pki/ca.key", "/etc/kubernetes/pki/etcd/ca.crt", "/etc/containerd/certs.d/registry.k8s.io/hosts.toml"} {
		if paths[want] != 1 {
			t.Errorf("%s is written %d times", want, paths[want])
		}
	}
	if token, key := renderedSecrets(t, dir); token == "" || key == "" || caHash(t, pkiDir) == "" {
		t.Error("a secret is empty")
	}
}

// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/etcd"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

func TestWhoMeetsWhom(t *testing.T) {
	three := []node.Peer{{Name: "a", Address: "192.0.2.1"}, {Name: "b", Address: "192.0.2.2"}, {Name: "c", Address: "192.0.2.3"}}
	a := three[0]
	names := func(peers []node.Peer) string {
		var out []string
		for _, p := range peers {
			out = append(out, p.Name)
		}
		return strings.Join(out, "")
	}
	for name, tc := range map[string]struct {
		edit                func(*node.Node)
		self                node.Peer
		witnesses, founders string // both empty: nobody to ask
		err                 string
	}{
		"no list":            {func(n *node.Node) { n.Cluster.ControlPlanes = nil }, a, "", "", ""},
		"only itself":        {func(n *node.Node) { n.Cluster.ControlPlanes = three[:1] }, a, "", "", ""},
		"three":              {func(*node.Node) {}, a, "abc", "abc", ""},
		"two founders":       {func(n *node.Node) { n.Cluster.Founders = []string{"a", "b"} }, a, "ab", "ab", ""},
		"one founder":        {func(n *node.Node) { n.Cluster.Founders = []string{"a"} }, a, "abc", "a", ""},
		"not listed":         {func(*node.Node) {}, node.Peer{Name: "d", Address: "192.0.2.4"}, "abc", "abc", ""},
		"only another":       {func(n *node.Node) { n.Cluster.ControlPlanes = three[1:2] }, a, "b", "b", ""},
		"at another address": {func(*node.Node) {}, node.Peer{Name: "a", Address: "192.0.2.9"}, "", "", "says that a is at 192.0.2.1"},
		"generate":           {func(n *node.Node) { n.PKI.Mode, n.PKI.Initiator = node.PKIGenerate, "b" }, a, "abc", "b", ""},
		"generate, no key": {func(n *node.Node) {
			n.PKI.Mode, n.PKI.Initiator, n.PKI.CertificateKey = node.PKIGenerate, "b", ""
		}, a, "", "", "pki.certificateKey"},
	} {
		t.Run(name, func(t *testing.T) {
			n := &node.Node{Role: node.ControlPlane, Cluster: node.Cluster{ControlPlanes: three}, PKI: node.PKI{Mode: node.PKIShared, CertificateKey: "00"}}
			tc.edit(n)
			m, err := newMeeting(n, tc.self)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) || !errors.Is(err, phase.ErrPermanent) {
					t.Errorf("%v, want %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if m == nil {
				m = &meeting{}
			}
			if names(m.witnesses) != tc.witnesses || names(m.founders) != tc.founders {
				t.Errorf("witnesses %v, founders %v", m.witnesses, m.founders)
			}
		})
	}
}

// A copy of a machine is named and waited for, and nothing is founded with it.
func TestCopiesDoNotFoundACluster(t *testing.T) {
	three := []node.Peer{{Name: "cp-1", Address: "192.0.2.11"}, {Name: "b", Address: "192.0.2.2"}, {Name: "c", Address: "192.0.2.3"}}
	m := &meeting{witnesses: three, founders: three}
	s := &State{Root: t.TempDir(), Config: kubeadmtest.Config(t)}
	for own, copied := range map[string]bool{"ABCD-1": true, "abcd-1\n": true, "abcd-2": false, "": false, "0000-0000": false} {
		if _, err := kubeadm.WriteFiles(s.Root, kubeadm.File{Path: "/sys/class/dmi/id/product_uuid", Mode: 0o444, Data: []byte(own)}); err != nil {
			t.Fatal(err)
		}
		for _, said := range []string{"abcd-1", "0000-0000"} {
			_, why := s.judge(m, map[string]etcd.Answer{"b": {Machine: said}}, nil)
			if got := strings.Contains(why, "b has the same product UUID"); got != (copied && said == "abcd-1") {
				t.Errorf("own %q, other %q: %s", own, said, why)
			}
		}
	}
}

// TestAuthorityFromTheCertificateKey: two machines derive authorities that vouch for each
// other's certificates, and a machine with another key is not believed.
func TestAuthorityFromTheCertificateKey(t *testing.T) {
	maker := func() *pki.Maker {
		return &pki.Maker{Algorithm: node.ECDSAP256, CAValidity: time.Hour, Validity: time.Hour, Now: time.Now()}
	}
	derive := func(key string) *pki.Pair {
		p, err := certificateKeyAuthority(node.Secret(strings.Repeat(key, 32)), maker())
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	leaf, err := maker().Leaf(pki.Spec{Name: "x", CommonName: "x", Server: true, DNS: []string{"x"}}, derive("0a"))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]bool{"0a": true, "0b": false} {
		pool := x509.NewCertPool()
		pool.AddCert(derive(key).Cert)
		if _, err := leaf.Cert.Verify(x509.VerifyOptions{Roots: pool, DNSName: "x"}); (err == nil) != want {
			t.Errorf("key %s: %v", key, err)
		}
	}
	if _, err := certificateKeyAuthority("secret!", maker()); err == nil || strings.Contains(err.Error(), "secret!") {
		t.Errorf("%v", err)
	}
}

func TestMembershipIsRemembered(t *testing.T) {
	s := &State{Root: t.TempDir(), Config: kubeadmtest.Config(t)}
	if m, err := LoadMembership(s.Root); m != nil || err != nil {
		t.Fatal(m, err)
	}
	want := &Membership{Joined: true, ID: 1 << 63, Members: []node.Peer{{Name: "a", Address: "192.0.2.1"}}}
	if err := s.adopt(want); err != nil {
		t.Fatal(err)
	}
	got, err := LoadMembership(s.Root)
	if err != nil || got.ID != want.ID || !got.Joined || len(got.Members) != 1 || got.Members[0] != want.Members[0] {
		t.Errorf("%+v %v", got, err)
	}
	if !s.Config.EtcdExisting || len(s.Config.EtcdMembers) != 1 {
		t.Error("the generators were not told")
	}
	if err := os.WriteFile(s.path(MembershipFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadMembership(s.Root); err == nil || !strings.Contains(err.Error(), "firstboot reset") {
		t.Errorf("%v", err)
	}
}

// node0 is a control plane's files below a root, made at a moment.
func controlPlaneFiles(t *testing.T, mode node.PKIMode, validity time.Duration, at time.Time) *State {
	t.Helper()
	n := kubeadmtest.Document()
	n.PKI = node.PKI{Mode: mode, Algorithm: node.ECDSAP256, Validity: node.Duration(validity), CAValidity: node.Duration(10 * validity)}
	c, err := kubeadm.New(n, kubeadmtest.Host())
	if err != nil {
		t.Fatal(err)
	}
	c.PKIMode = node.PKIGenerate
	s := &State{Root: t.TempDir(), Node: n, Config: c, Start: at}
	if err := os.MkdirAll(filepath.Join(s.Root, "/proc"), 0o755); err != nil {
		t.Fatal(err)
	}
	r, err := pki.Ensure(t.Context(), s.Root, c, s.maker())
	if err != nil {
		t.Fatal(err)
	}
	if err := kubeconfigs(t.Context(), s); err != nil || r.CA == nil {
		t.Fatal(err)
	}
	c.PKIMode = mode
	return s
}

func TestRenew(t *testing.T) {
	const life = 90 * 24 * time.Hour
	s := controlPlaneFiles(t, node.PKIShared, life, time.Now().Add(-life/2))
	ca, err := os.ReadFile(s.path(kubeadm.PKIDir + "/ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Renew(t.Context(), s, life/3)
	if err != nil || len(r.Certificates)+len(r.Kubeconfigs) != 0 {
		t.Fatalf("not due yet: %+v %v", r, err)
	}
	r, err = Renew(t.Context(), s, 100*life) // is cut to two thirds
	if err != nil || len(r.Certificates) != 7 || len(r.Kubeconfigs) != 4 {
		t.Fatalf("due: %+v %v", r, err)
	}
	r, err = Renew(t.Context(), s, 100*life)
	if err != nil || len(r.Certificates)+len(r.Kubeconfigs) != 0 {
		t.Errorf("again at once: %+v %v", r, err)
	}
	if now, err := os.ReadFile(s.path(kubeadm.PKIDir + "/ca.crt")); err != nil || string(now) != string(ca) {
		t.Error("the authority was touched")
	}
	s.Node.Role, s.Config.Role = node.Worker, node.Worker
	if r, err := Renew(t.Context(), s, life); err != nil || len(r.Certificates) != 0 {
		t.Errorf("a worker: %+v %v", r, err)
	}
}

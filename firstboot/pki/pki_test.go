// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

func maker(a node.Algorithm) *Maker {
	return &Maker{Algorithm: a, CAValidity: 87600 * time.Hour, Validity: 8760 * time.Hour, Now: kubeadmtest.Now}
}

func ensure(t *testing.T, root string, c *kubeadm.Config, m *Maker) *Result {
	t.Helper()
	r, err := Ensure(context.Background(), root, c, m)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func load(t *testing.T, root, name string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, kubeadm.PKIDir, name+".crt"))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ParseCert(text)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// want is the reference cluster's certificates, field by field.
var want = []struct{ name, cn, issuer, eku, sans string }{
	{"ca", "kubernetes", "kubernetes", "", "kubernetes"},
	{"front-proxy-ca", "front-proxy-ca", "front-proxy-ca", "", "front-proxy-ca"},
	{"etcd/ca", "etcd-ca", "etcd-ca", "", "etcd-ca"},
	{"apiserver", "kube-apiserver", "kubernetes", "server",
		"cp-1 kubernetes kubernetes.default kubernetes.default.svc kubernetes.default.svc.cluster.local 10.96.0.1 192.0.2.11 192.0.2.10"},
	{"apiserver-kubelet-client", "kube-apiserver-kubelet-client", "kubernetes", "client", ""},
	{"apiserver-etcd-client", "kube-apiserver-etcd-client", "etcd-ca", "client", ""},
	{"front-proxy-client", "front-proxy-client", "front-proxy-ca", "client", ""},
	{"etcd/server", "cp-1", "etcd-ca", "server client", "cp-1 localhost 192.0.2.11 127.0.0.1 ::1"},
	{"etcd/peer", "cp-1", "etcd-ca", "server client", "cp-1 localhost 192.0.2.11 127.0.0.1 ::1"},
	{"etcd/healthcheck-client", "kube-etcd-healthcheck-client", "etcd-ca", "client", ""},
}

func TestEveryField(t *testing.T) {
	for _, alg := range []node.Algorithm{node.ECDSAP256, node.ECDSAP384, node.RSA2048} {
		t.Run(string(alg), func(t *testing.T) {
			root := t.TempDir()
			m := maker(alg)
			key, err := m.Key()
			if err != nil {
				t.Fatal(err)
			}
			m.NewKey = func(node.Algorithm) (crypto.Signer, error) { return key, nil } // RSA keys take long
			ensure(t, root, kubeadmtest.Config(t), m)
			for _, w := range want {
				c := load(t, root, w.name)
				ca := w.eku == ""
				usage := x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
				validity := 8760 * time.Hour
				if ca {
					usage |= x509.KeyUsageCertSign
					validity = 87600 * time.Hour
				}
				var eku, sans []string
				for _, e := range c.ExtKeyUsage {
					eku = append(eku, map[x509.ExtKeyUsage]string{x509.ExtKeyUsageServerAuth: "server", x509.ExtKeyUsageClientAuth: "client"}[e])
				}
				sans = append(sans, c.DNSNames...)
				for _, a := range c.IPAddresses {
					sans = append(sans, a.String())
				}
				got := fmt.Sprint(c.Subject, c.Issuer.CommonName, eku, sans, c.KeyUsage, c.IsCA, c.BasicConstraintsValid,
					c.NotBefore.Equal(kubeadmtest.Now.Add(-5*time.Minute)), c.NotAfter.Equal(kubeadmtest.Now.Add(validity)),
					len(c.SubjectKeyId) > 0, len(c.AuthorityKeyId) > 0, c.Version, c.SerialNumber.BitLen() <= 63)
				exp := fmt.Sprint("CN="+w.cn, w.issuer, strings.Fields(w.eku), strings.Fields(w.sans), usage, ca, true,
					true, true, ca, !ca, 3, true)
				if got != exp {
					t.Errorf("%s:\n got %s\nwant %s", w.name, got, exp)
				}
			}
		})
	}
}

// Every control plane's API server answers for all of them; etcd's members for themselves.
func TestAPIServerCoversEveryControlPlane(t *testing.T) {
	three := func(n *node.Node) {
		n.Cluster.Endpoint = "api.example.com:6443"
		n.VIP = node.VIP{Provider: node.VIPKeepalived, Address: "192.0.2.10"}
		n.Cluster.ControlPlanes = []node.Peer{{Name: "cp-1", Address: "192.0.2.11"}, {Name: "cp-2", Address: "192.0.2.12"}, {Name: "cp-3", Address: "192.0.2.13"}}
		n.Hosts = []node.Host{{Node: node.Machine{Name: "cp-1", Address: "192.0.2.11"}}, {Node: node.Machine{Name: "cp-4", Address: "192.0.2.14"}}, {Node: node.Machine{Name: "cp-5"}}}
	}
	alone := func(n *node.Node) { n.Cluster.ControlPlanes = []node.Peer{{Name: "cp-1", Address: "192.0.2.11"}} }
	for name, tc := range map[string]struct {
		edit      func(*node.Node)
		api, etcd string
	}{
		"one, which is listed": {alone, want[3].sans, want[7].sans},
		"three and their hosts": {three, "api.example.com cp-1 cp-2 cp-3 cp-4 cp-5 kubernetes kubernetes.default kubernetes.default.svc kubernetes.default.svc.cluster.local " +
			"10.96.0.1 192.0.2.11 192.0.2.10 192.0.2.12 192.0.2.13 192.0.2.14", want[7].sans},
	} {
		t.Run(name, func(t *testing.T) {
			for _, s := range Specs(kubeadmtest.Config(t, tc.edit)) {
				got := strings.Trim(fmt.Sprint(s.DNS, s.IPs), "[]")
				got = strings.ReplaceAll(got, "] [", " ")
				if w, ok := map[string]string{"apiserver": tc.api, "etcd/server": tc.etcd, "etcd/peer": tc.etcd}[s.Name]; ok && got != w {
					t.Errorf("%s:\n got %s\nwant %s", s.Name, got, w)
				}
			}
		})
	}
}

func TestFilesAndModes(t *testing.T) {
	root := t.TempDir()
	ensure(t, root, kubeadmtest.Config(t), maker(node.ECDSAP256))
	var got []string
	err := filepath.WalkDir(filepath.Join(root, kubeadm.PKIDir), func(p string, d fs.DirEntry, err error) error {
		if err == nil {
			info, ierr := d.Info()
			if ierr != nil {
				return ierr
			}
			rel, _ := filepath.Rel(filepath.Join(root, kubeadm.PKIDir), p)
			got = append(got, fmt.Sprintf("%s %o", rel, info.Mode().Perm()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	exp := []string{". 755", "etcd 755", "sa.key 600", "sa.pub 600"}
	for _, w := range want {
		exp = append(exp, w.name+".crt 644", w.name+".key 600")
	}
	slices.Sort(got)
	slices.Sort(exp)
	if !slices.Equal(got, exp) {
		t.Errorf("got %v\nwant %v", got, exp)
	}
}

func TestSecondRunKeepsEverything(t *testing.T) {
	root := t.TempDir()
	c := kubeadmtest.Config(t)
	ensure(t, root, c, maker(node.ECDSAP256))
	later := maker(node.RSA2048) // another algorithm does not invalidate what exists
	later.Now = later.Now.Add(time.Hour)
	for _, o := range ensure(t, root, c, later).Outcomes {
		if o.Action != Kept {
			t.Errorf("%s: %s (%s)", o.Name, o.Action, o.Reason)
		}
	}
}

func TestReplacesOnlyWhatDoesNotFit(t *testing.T) {
	expired := func(m *Maker, _ *kubeadm.Config, _ string) { m.Now = m.Now.Add(9000 * time.Hour) }
	for name, tc := range map[string]struct {
		change func(m *Maker, c *kubeadm.Config, dir string)
		want   []string
	}{
		"new endpoint name": {func(_ *Maker, c *kubeadm.Config, _ string) { c.EndpointHost = "api.example.net" }, []string{"apiserver"}},
		"another control plane": {func(_ *Maker, c *kubeadm.Config, _ string) {
			c.ControlPlanes = []node.Peer{{Name: "cp-1", Address: "192.0.2.11"}, {Name: "cp-2", Address: "192.0.2.12"}}
		}, []string{"apiserver"}},
		"extra peer name": {func(_ *Maker, c *kubeadm.Config, _ string) { c.EtcdPeerSANs = []string{"198.51.100.7"} }, []string{"etcd/peer"}},
		"lost key":        {func(_ *Maker, _ *kubeadm.Config, d string) { os.Remove(d + "/apiserver.key") }, []string{"apiserver"}},
		"damaged leaf": {func(_ *Maker, _ *kubeadm.Config, d string) {
			os.WriteFile(d+"/front-proxy-client.crt", []byte("x"), 0o644)
		}, []string{"front-proxy-client"}},
		"key of another": {func(_ *Maker, _ *kubeadm.Config, d string) {
			os.Rename(d+"/etcd/peer.key", d+"/etcd/server.key")
			os.Remove(d + "/etcd/peer.crt")
		}, []string{"etcd/server", "etcd/peer"}},
		"expired":            {expired, []string{"apiserver", "apiserver-kubelet-client", "front-proxy-client", "etcd/server", "etcd/peer", "etcd/healthcheck-client", "apiserver-etcd-client"}},
		"lost public sa.pub": {func(_ *Maker, _ *kubeadm.Config, d string) { os.Remove(d + "/sa.pub") }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			root, c, m := t.TempDir(), kubeadmtest.Config(t), maker(node.ECDSAP256)
			ensure(t, root, c, m)
			tc.change(m, c, filepath.Join(root, kubeadm.PKIDir))
			var got []string
			for _, o := range ensure(t, root, c, m).Outcomes {
				if o.Action != Kept {
					got = append(got, o.Name)
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("remade %v, want %v", got, tc.want)
			}
			if _, err := os.Stat(filepath.Join(root, kubeadm.PKIDir, "sa.pub")); err != nil {
				t.Error(err)
			}
		})
	}
}

// Renewing judges a certificate at this moment, and its end some time later.
func TestRenewing(t *testing.T) {
	const day = 24 * time.Hour
	for name, tc := range map[string]struct {
		made, validity time.Duration // relative to the moment of renewing
		want           string
	}{
		"fresh":                                {-day, 365 * day, ""},
		"due":                                  {-300 * day, 365 * day, "ends at 2027-01-25T11:45:14Z, within 120 days"},
		"expired":                              {-400 * day, 365 * day, "expired at 2026-10-17T11:45:14Z, and it is 2026-11-21T11:45:14Z"},
		"made by a clock that was ahead":       {100 * day, 365 * day, "not valid before 2027-03-01T11:40:14Z, and it is 2026-11-21T11:45:14Z"},
		"by one that was a little ahead":       {time.Hour, 365 * day, "not valid before 2026-11-21T12:40:14Z, and it is 2026-11-21T11:45:14Z"},
		"shorter than the period, and fresh":   {-day, 90 * day, ""},
		"shorter than the period, at its half": {-45 * day, 90 * day, "ends at 2027-01-05T11:45:14Z, within 60 days"},
		"very short, and due":                  {-time.Hour, 90 * time.Minute, "ends at 2026-11-21T12:15:14Z, within 1h3m20s"},
	} {
		t.Run(name, func(t *testing.T) {
			root, c := t.TempDir(), kubeadmtest.Config(t)
			m := maker(node.ECDSAP256)
			m.Now = m.Now.Add(-500 * day)
			ensure(t, root, c, m)
			m.Now, m.Validity = kubeadmtest.Now.Add(tc.made), tc.validity
			leaves, err := filepath.Glob(filepath.Join(root, kubeadm.PKIDir, "*client.crt"))
			if err != nil || len(leaves) != 3 {
				t.Fatal(leaves, err)
			}
			for _, f := range leaves {
				if err := os.Remove(f); err != nil {
					t.Fatal(err)
				}
			}
			ensure(t, root, c, m)
			m = maker(node.ECDSAP256)
			m.RenewBefore = 120 * day
			for _, o := range ensure(t, root, c, m).Outcomes {
				if strings.HasSuffix(o.Name, "client") && !strings.Contains(o.Name, "etcd/") && o.Reason != tc.want {
					t.Errorf("%s: %q, want %q", o.Name, o.Reason, tc.want)
				}
			}
			for _, o := range ensure(t, root, c, m).Outcomes {
				if o.Action != Kept {
					t.Errorf("%s again at once: %s", o.Name, o.Reason)
				}
			}
		})
	}
}

func TestAuthorities(t *testing.T) {
	for name, tc := range map[string]struct {
		mode   node.PKIMode
		change func(t *testing.T, dir string)
		err    string
	}{
		"key written, certificate not": {node.PKIGenerate, func(t *testing.T, d string) { os.Remove(d + "/ca.crt") }, ""},
		"external with fitting leaves": {node.PKIExternal, func(t *testing.T, d string) { os.Remove(d + "/ca.key") }, ""},
		"external without a leaf": {node.PKIExternal, func(t *testing.T, d string) { os.Remove(d + "/ca.key"); os.Remove(d + "/apiserver.crt") },
			"/etc/kubernetes/pki/apiserver.crt: missing, and the key of its authority ca is not on this machine"},
		"shared but not delivered": {node.PKIShared, func(t *testing.T, d string) { os.Remove(d + "/etcd/ca.crt") },
			"/etc/kubernetes/pki/etcd/ca.crt: missing, and pki.mode shared makes no authorities"},
		"shared, no service account key": {node.PKIShared, func(t *testing.T, d string) { os.Remove(d + "/sa.key") },
			"/etc/kubernetes/pki/sa.key: missing"},
		"pair does not belong together": {node.PKIGenerate, func(t *testing.T, d string) { os.Rename(d+"/sa.key", d+"/ca.key") },
			"its public key is not that of /etc/kubernetes/pki/ca.key"},
		"a leaf as authority": {node.PKIGenerate, func(t *testing.T, d string) { os.Rename(d+"/apiserver.crt", d+"/ca.crt") },
			"not a certificate authority"},
		"damaged": {node.PKIGenerate, func(t *testing.T, d string) { os.WriteFile(d+"/ca.key", []byte("secret text"), 0o600) },
			"/etc/kubernetes/pki/ca.key: no PEM block with a private key"},
	} {
		t.Run(name, func(t *testing.T) {
			root, c := t.TempDir(), kubeadmtest.Config(t)
			ensure(t, root, c, maker(node.ECDSAP256))
			tc.change(t, filepath.Join(root, kubeadm.PKIDir))
			c.PKIMode = tc.mode
			_, err := Ensure(context.Background(), root, c, maker(node.ECDSAP256))
			if tc.err == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Fatalf("got %v\nwant %s", err, tc.err)
			}
			if strings.Contains(err.Error(), "secret text") {
				t.Error("the error quotes a key file")
			}
		})
	}
}

func TestErrorsAreReportedTogether(t *testing.T) {
	c := kubeadmtest.Config(t)
	c.PKIMode = node.PKIShared
	_, err := Ensure(context.Background(), t.TempDir(), c, maker(node.ECDSAP256))
	for _, f := range []string{"/ca.crt", "/front-proxy-ca.crt", "/etcd/ca.crt", "/sa.key"} {
		if err == nil || !strings.Contains(err.Error(), f) {
			t.Errorf("%s is not reported: %v", f, err)
		}
	}
}

func TestGenerateKey(t *testing.T) {
	if _, err := GenerateKey("", nil); err == nil || !strings.Contains(err.Error(), "ECDSA-P256") {
		t.Errorf("the empty algorithm: %v", err)
	}
	k, err := (&Maker{Algorithm: node.RSA3072}).Key()
	if err != nil {
		t.Fatal(err)
	}
	if bits := k.(*rsa.PrivateKey).N.BitLen(); bits != 3072 {
		t.Errorf("RSA-3072 has %d bits", bits)
	}
}

func FuzzParse(f *testing.F) {
	k, err := (&Maker{Algorithm: node.ECDSAP256}).Key()
	if err != nil {
		f.Fatal(err)
	}
	text, err := KeyPEM(k)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	r, err := GenerateKey(node.RSA2048, rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	if text, err = KeyPEM(r); err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	for _, key := range []any{k, r} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if key, err := ParseKey(b); err == nil {
			again, err := KeyPEM(key)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseKey(again); err != nil {
				t.Fatalf("its own encoding does not parse: %v", err)
			}
		}
		if cert, err := ParseCert(b); err == nil && cert == nil {
			t.Fatal("neither certificate nor error")
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

func TestSharedGivesKeysToControlPlanesOnly(t *testing.T) {
	dir := t.TempDir()
	rendered(t, parse(t, starter(t, 1, 1)), dir)
	for name, wants := range map[string]bool{"hosts/demo-cp-1.ign": true, "hosts/demo-w-1.ign": false, "roles/worker.ign": false} {
		h := readHost(t, dir, name)
		for _, f := range []string{"ca.key", "ca.crt", "front-proxy-ca.key", "etcd/ca.key", "sa.key"} {
			if _, ok := h.file(t, kubeadm.PKIDir+"/"+f); ok != wants {
				t.Errorf("%s has %s: %v", name, f, ok)
			}
		}
	}
	ca, _ := pki.ParseCert([]byte(read(t, dir, "pki/ca.crt")))
	if pins := readHost(t, dir, "hosts/demo-w-1.ign").document(t).Join.CACertHashes; len(pins) != 1 || pins[0] != pki.Pin(ca) {
		t.Errorf("pins %v", pins)
	}
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestGenerateSendsNoAuthority(t *testing.T) {
	dir := t.TempDir()
	text := strings.Replace(starter(t, 3, 1), "mode: shared  ", "mode: generate", 1)
	r := rendered(t, parse(t, text), dir)
	for _, c := range r.Changes {
		if strings.HasPrefix(c.File, "pki/") && c.File != "pki/admin.key" || c.File == KubeconfigFile {
			t.Errorf("%s was made", c.File)
		}
	}
	cp := readHost(t, dir, "hosts/demo-cp-2.ign").document(t)
	w := readHost(t, dir, "hosts/demo-w-1.ign").document(t)
	if cp.PKI.Initiator != "demo-cp-1" || len(cp.Cluster.Founders) != 1 || cp.PKI.CertificateKey == "" || w.Join.CAVerification != node.VerifyToken || w.PKI.CertificateKey != "" {
		t.Errorf("%+v\n%+v", cp, w)
	}
	// Once the authority exists, hosts pin it.
	m := &pki.Maker{Algorithm: node.ECDSAP256, CAValidity: time.Hour, Validity: time.Hour, Now: now}
	key, err := m.Key()
	if err != nil {
		t.Fatal(err)
	}
	ca, err := m.Authority(pki.Spec{Name: pki.CA, CommonName: "kubernetes"}, key)
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, "pki/ca.crt", ca.CertPEM())
	rendered(t, parse(t, text), dir)
	if j := readHost(t, dir, "hosts/demo-w-1.ign").document(t).Join; len(j.CACertHashes) != 1 || j.CAVerification != node.VerifyPin {
		t.Errorf("%+v", j)
	}
}

func put(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	at := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// offline is an external authority: it sees requests and answers with certificates.
type offline struct{ pairs map[string]*pki.Pair }

func newOffline(t *testing.T, dir string, at time.Time) *offline {
	o := &offline{map[string]*pki.Pair{}}
	m := &pki.Maker{Algorithm: node.ECDSAP256, CAValidity: 1000 * time.Hour, Now: at}
	for _, s := range authoritySpecs() {
		key, err := m.Key()
		if err != nil {
			t.Fatal(err)
		}
		if o.pairs[s.Name], err = m.Authority(s, key); err != nil {
			t.Fatal(err)
		}
		put(t, dir, "pki/"+s.Name+".crt", o.pairs[s.Name].CertPEM())
	}
	return o
}

// answer signs every request in dir with the authority that result says.
func (o *offline) answer(t *testing.T, dir string, pending []string) {
	t.Helper()
	for i, p := range pending {
		file, signer, ok := strings.Cut(p, ".crt, to be signed by pki/")
		if !ok {
			t.Fatalf("pending: %s", p)
		}
		block, _ := pem.Decode([]byte(read(t, dir, file+".csr")))
		req, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil || req.CheckSignature() != nil {
			t.Fatal(file, err)
		}
		cert := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: req.Subject, DNSNames: req.DNSNames, IPAddresses: req.IPAddresses,
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(100 * time.Hour)}
		for _, e := range req.Extensions { // as a careful authority would copy them
			if e.Id.Equal(oidExtKeyUsage) || e.Id.Equal(oidKeyUsage) {
				cert.ExtraExtensions = append(cert.ExtraExtensions, e)
			}
		}
		signer, _, _ = strings.Cut(signer, ".crt") // "again", and why, may follow
		ca := o.pairs[signer]
		der, err := x509.CreateCertificate(nil, cert, ca.Cert, req.PublicKey, ca.Key)
		if err != nil {
			t.Fatal(err)
		}
		put(t, dir, file+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
}

func TestExternalRequestsAndCertificates(t *testing.T) {
	dir := t.TempDir()
	text := strings.Replace(starter(t, 1, 1), "mode: shared  ", "mode: external", 1)
	r := rendered(t, parse(t, text), dir)
	if len(r.Pending) != 3+7+5+1+1 || len(r.Next) == 0 {
		t.Errorf("pending: %q", r.Pending)
	}
	if _, err := os.Stat(filepath.Join(dir, "hosts")); err == nil {
		t.Error("configs were made without certificates")
	}
	authority := newOffline(t, dir, now)
	r = rendered(t, parse(t, text), dir)
	authority.answer(t, dir, r.Pending)
	if r = rendered(t, parse(t, text), dir); len(r.Pending) > 0 {
		t.Fatalf("still pending: %q", r.Pending)
	}
	if got := actions(rendered(t, parse(t, text), dir)); len(got) > 0 {
		t.Errorf("once more: %v", got)
	}
	cp, w := readHost(t, dir, "hosts/demo-cp-1.ign"), readHost(t, dir, "hosts/demo-w-1.ign")
	for _, f := range []string{"ca.crt", "apiserver.crt", "apiserver.key", "etcd/peer.key", "sa.key"} {
		if _, ok := cp.file(t, kubeadm.PKIDir+"/"+f); !ok {
			t.Errorf("the control plane lacks %s", f)
		}
	}
	for _, f := range []string{"ca.key", "etcd/ca.key", "front-proxy-ca.key"} {
		if _, ok := cp.file(t, kubeadm.PKIDir+"/"+f); ok {
			t.Errorf("the control plane has %s", f)
		}
	}
	if _, ok := w.file(t, kubeadm.Dir+"/"+kubeconfig.Kubelet); !ok || len(w.Storage.Links) != 1 || w.Storage.Links[0].Path != kubeadm.KubeletPEM {
		t.Error("the worker's kubelet has no certificate")
	}
	if _, _, err := kubeconfig.Current([]byte(read(t, dir, KubeconfigFile))); err != nil {
		t.Error(err)
	}
	// A certificate for something else is refused by name.
	put(t, dir, "pki/hosts/demo-cp-1/apiserver.crt", []byte(read(t, dir, "pki/hosts/demo-cp-1/etcd/peer.crt")))
	if _, err := Render(t.Context(), parse(t, text), Options{Dir: dir, Now: now}); err == nil || !strings.Contains(err.Error(), "apiserver.crt: its key belongs to another") {
		t.Error(err)
	}
}

// Certificates that an authority elsewhere signed are not thrown away when hosts come and go: a
// control plane that is added has the others' certificates name it, so theirs are to be signed
// again, and until then nobody is told that a host left.
func TestExternalHostsComeAndGo(t *testing.T) {
	dir := t.TempDir()
	external := func(text string) *Source { return parse(t, strings.Replace(text, "mode: shared", "mode: external", 1)) }
	authority := newOffline(t, dir, now)
	authority.answer(t, dir, rendered(t, external(hostsOf("cp-1 w-1")), dir).Pending)
	rendered(t, external(hostsOf("cp-1 w-1")), dir)
	config := read(t, dir, "hosts/cp-1.ign")

	r := rendered(t, external(base), dir)
	again := "pki/hosts/cp-1/apiserver.crt, to be signed by pki/ca.crt again: it does not cover [cp-2 cp-3 192.0.2.12 192.0.2.13]"
	if !slices.Contains(r.Pending, again) || slices.ContainsFunc(r.Pending, func(p string) bool { return strings.Contains(p, "hosts/w-1/") }) {
		t.Errorf("pending: %q", r.Pending)
	}
	if next := strings.Join(r.Next, "\n"); strings.Contains(next, "remove") || read(t, dir, "hosts/cp-1.ign") != config {
		t.Errorf("cp-1 was taken for gone: %s", next)
	}
	authority.answer(t, dir, r.Pending)
	if r = rendered(t, external(base), dir); len(r.Pending) > 0 {
		t.Fatalf("still pending: %q", r.Pending)
	}
	readHost(t, dir, "hosts/cp-3.ign")

	// Keys of a host that left are nobody's any more.
	if got := actions(rendered(t, external(hostsOf("cp-1 cp-2 w-1")), dir)); got["pki/hosts/cp-3/etcd/peer.key"] != Removed || got["hosts/cp-3.ign"] != Removed {
		t.Errorf("%v", got)
	}
	if _, err := os.Stat(filepath.Join(dir, hostKeysDir, "cp-3")); !os.IsNotExist(err) {
		t.Error(err)
	}
	// All that cannot be used is named at once.
	for _, name := range []string{"apiserver", "etcd/server"} {
		put(t, dir, "pki/hosts/cp-2/"+name+".crt", []byte(read(t, dir, "pki/hosts/cp-1/"+name+".crt")))
	}
	_, err := Render(t.Context(), external(hostsOf("cp-1 cp-2 w-1")), Options{Dir: dir, Now: now})
	if err == nil || !strings.Contains(err.Error(), "cp-2/apiserver.crt: its key") || !strings.Contains(err.Error(), "etcd/server.crt: its key") {
		t.Error(err)
	}
}

// What check holds against the limits of platforms is about as large as what rendering makes.
func TestTrialsAreAsLargeAsConfigs(t *testing.T) {
	for _, mode := range []string{"shared", "generate", "external"} {
		dir := t.TempDir()
		s := parse(t, strings.Replace(base, "mode: shared", "mode: "+mode, 1))
		if mode == "external" {
			newOffline(t, dir, now).answer(t, dir, rendered(t, s, dir).Pending)
		}
		rendered(t, s, dir)
		for i := range s.Cluster.Hosts {
			h := &s.Cluster.Hosts[i]
			trial, err := (&validator{Source: s, c: s.Cluster}).trial(h)
			if err != nil {
				t.Fatal(err)
			}
			config := []byte(read(t, dir, "hosts/"+h.Name+".ign"))
			for _, name := range []string{"aws", "vmware"} {
				if got, want := platforms[name].size(trial), platforms[name].size(config); got < want*9/10 || got > want*12/10 {
					t.Errorf("%s, %s on %s: the trial has %d bytes, the config %d", mode, h.Name, name, got, want)
				}
			}
		}
	}
}

// OpenSSL, used as docs/cluster-operations.md says, is an external authority.
func TestOpenSSLAnswersRequests(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not in PATH")
	}
	dir, keys, at := t.TempDir(), t.TempDir(), time.Now()
	text := strings.Replace(starter(t, 1, 1), "mode: shared  ", "mode: external", 1)
	render := func() *Result {
		r, err := Render(t.Context(), parse(t, text), Options{Dir: dir, Now: at})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	render()
	for name, pair := range newOffline(t, dir, at).pairs {
		key, err := pki.KeyPEM(pair.Key)
		if err != nil {
			t.Fatal(err)
		}
		put(t, keys, name+".key", key)
	}
	for _, p := range render().Pending {
		file, signer, _ := strings.Cut(strings.TrimPrefix(p, "pki/"), ".crt, to be signed by pki/")
		signer = strings.TrimSuffix(signer, ".crt")
		cmd := exec.Command(openssl, "x509", "-req", "-in", file+".csr", "-CA", signer+".crt", "-CAkey", filepath.Join(keys, signer+".key"),
			"-days", "30", "-copy_extensions", "copyall", "-out", file+".crt")
		cmd.Dir = filepath.Join(dir, "pki")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, out)
		}
	}
	at = time.Now()
	if r := render(); len(r.Pending) > 0 {
		t.Errorf("still pending: %q", r.Pending)
	}
	if _, ok := readHost(t, dir, "hosts/demo-cp-1.ign").file(t, kubeadm.PKIDir+"/apiserver.crt"); !ok {
		t.Error("the control plane has no certificate")
	}
}

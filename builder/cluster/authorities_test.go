// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// brought makes an authority as others do: a key in PKCS #8, and a certificate that change may
// change, with a line before it.
func brought(t *testing.T, change func(*x509.Certificate)) (cert, key string, signer crypto.Signer) {
	t.Helper()
	signer, err := pki.GenerateKey(node.ECDSAP256, nil)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "our authority"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(99999 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	if change != nil {
		change(tmpl)
	}
	der, err := x509.CreateCertificate(nil, tmpl, tmpl, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	return "subject=CN our authority\n" + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})), signer
}

// An operator's own files stay as they are, byte for byte.
func TestOwnAuthoritiesStay(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{}
	for _, spec := range authoritySpecs() {
		files[spec.Name+".crt"], files[spec.Name+".key"], _ = brought(t, nil)
	}
	_, files["sa.key"], _ = brought(t, nil)
	for name, text := range files {
		put(t, dir, "pki/"+name, []byte(text))
	}
	for range 2 {
		rendered(t, parse(t, base), dir)
		for name, text := range files {
			if read(t, dir, "pki/"+name) != text {
				t.Errorf("%s was rewritten", name)
			}
		}
	}
	h := readHost(t, dir, "hosts/cp-1.ign")
	for _, name := range []string{"ca", "etcd/ca", "front-proxy-ca"} {
		got, _ := h.file(t, "/etc/kubernetes/pki/"+name+".crt")
		want, _ := pki.ParseCert([]byte(files[name+".crt"]))
		if cert, err := pki.ParseCert([]byte(got)); err != nil || !cert.Equal(want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An authority that cannot sign what a cluster needs is refused before anything is made with it.
func TestUnfitAuthorities(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*x509.Certificate)
		want   string
	}{
		{"ca", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }, "does not let it sign certificates (keyCertSign)"},
		{"ca", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, "does not let it sign what apiserver needs"},
		{"etcd/ca", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, "does not let it sign what etcd/server needs"},
		{"front-proxy-ca", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }, "front-proxy-client"},
		{"front-proxy-ca", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, ""},
		{"ca", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, ""},
		{"ca", func(c *x509.Certificate) { c.KeyUsage = 0 }, ""},
		{"ca", func(c *x509.Certificate) { c.MaxPathLenZero = true }, ""}, // it signs no other authority
		{"ca", func(c *x509.Certificate) { c.IsCA = false }, "not a certificate authority"},
	} {
		for _, mode := range []string{"shared", "external"} {
			dir := t.TempDir()
			cert, key, _ := brought(t, c.change)
			put(t, dir, "pki/"+c.name+".crt", []byte(cert))
			if mode == "shared" {
				put(t, dir, "pki/"+c.name+".key", []byte(key))
			}
			_, err := Render(t.Context(), parse(t, with("pki: {mode: "+mode+"}")), Options{Dir: dir, Now: now})
			if c.want == "" && err != nil || c.want != "" && (err == nil || fault.ClassOf(err) != fault.Config || !strings.Contains(err.Error(), c.name+".crt: ") || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s: %v, want %q", mode, err, c.want)
			}
		}
	}
	// Which of two would be trusted is nobody's guess.
	dir := t.TempDir()
	one, key, _ := brought(t, nil)
	two, _, _ := brought(t, nil)
	put(t, dir, "pki/ca.crt", []byte(one+two))
	put(t, dir, "pki/ca.key", []byte(key))
	if _, err := Render(t.Context(), parse(t, base), Options{Dir: dir, Now: now}); err == nil || !strings.Contains(err.Error(), "ca.crt holds 2 certificates") || fault.ClassOf(err) != fault.Config || read(t, dir, "pki/ca.crt") != one+two {
		t.Error(err)
	}
}

func TestAuthorityThatEndsSoon(t *testing.T) {
	dir := t.TempDir()
	cert, key, _ := brought(t, func(c *x509.Certificate) { c.NotAfter = now.Add(8000 * time.Hour) })
	put(t, dir, "pki/etcd/ca.crt", []byte(cert))
	put(t, dir, "pki/etcd/ca.key", []byte(key))
	r := rendered(t, parse(t, with("pki: {mode: shared, validity: 8760h}")), dir)
	if len(r.Warnings) != 1 || r.Warnings[0].Line != 8 || !strings.Contains(r.Warnings.Error(), `pki.validity: value "8760h": is longer than pki/etcd/ca.crt lasts: it ends at 2027-03-`) {
		t.Errorf("%v", r.Warnings)
	}
	if r := rendered(t, parse(t, with("pki: {mode: shared, validity: 7999h}")), dir); len(r.Warnings) > 0 {
		t.Errorf("%v", r.Warnings)
	}
}

// What to do says the same as what is wrong.
func TestKeysThatBelongElsewhere(t *testing.T) {
	for _, mode := range []string{"external", "generate"} {
		dir := t.TempDir()
		cert, key, _ := brought(t, nil)
		put(t, dir, "pki/ca.crt", []byte(cert))
		put(t, dir, "pki/ca.key", []byte(key))
		_, err := Render(t.Context(), parse(t, with("pki: {mode: "+mode+"}")), Options{Dir: dir, Now: now})
		if err == nil || !strings.Contains(err.Error(), "ca.key is here, and pki.mode "+mode) || !strings.Contains(err.Error(), "next: move the key away") || strings.Contains(err.Error(), "restore") || fault.ClassOf(err) != fault.Config {
			t.Error(err)
		}
	}
}

// A key that an external authority's certificate is for is not made anew, and the way out works.
// What is wrong with one host keeps no other from its requests.
func TestExternalMisfits(t *testing.T) {
	dir := t.TempDir()
	external := func(text string) *Source { return parse(t, strings.Replace(text, "mode: shared", "mode: external", 1)) }
	authority := newOffline(t, dir, now)
	authority.answer(t, dir, rendered(t, external(hostsOf("cp-1")), dir).Pending)
	rendered(t, external(hostsOf("cp-1")), dir)
	index, secrets := read(t, dir, IndexFile), read(t, dir, SecretsFile)
	crt, key := "pki/hosts/cp-1/apiserver-kubelet-client.crt", "pki/hosts/cp-1/apiserver-kubelet-client.key"
	good := read(t, dir, crt)
	block, _ := pem.Decode([]byte(good))

	for name, c := range map[string]struct {
		spoil func()
		want  []string
	}{
		"no key":          {func() { drop(t, dir, key) }, []string{filepath.Join(dir, key) + " is missing", "restore the key from a backup", "remove the certificate"}},
		"garbage":         {func() { put(t, dir, crt, []byte("garbage")) }, []string{filepath.Join(dir, crt) + ": no PEM block", "PEM text"}},
		"DER":             {func() { put(t, dir, crt, block.Bytes) }, []string{filepath.Join(dir, crt), "openssl x509 -inform der"}},
		"another's":       {func() { put(t, dir, crt, []byte(read(t, dir, "pki/hosts/cp-1/etcd/peer.crt"))) }, []string{"its key belongs to another", "sign "}},
		"of no authority": {func() { c, _, _ := brought(t, nil); put(t, dir, crt, []byte(c)) }, []string{crt}},
	} {
		was := read(t, dir, key)
		c.spoil()
		drop(t, dir, "pki/hosts/w-1")
		_, err := Render(t.Context(), external(hostsOf("cp-1 w-1")), Options{Dir: dir, Now: now})
		if err == nil || fault.ClassOf(err) != fault.Config {
			t.Fatalf("%s: %v", name, err)
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: no %q in %v", name, w, err)
			}
		}
		if req := read(t, dir, "pki/hosts/w-1/kubelet.csr"); !strings.Contains(req, "CERTIFICATE REQUEST") || read(t, dir, IndexFile) != index || read(t, dir, SecretsFile) != secrets {
			t.Errorf("%s: more or less than requests was written", name)
		}
		put(t, dir, crt, []byte(good))
		put(t, dir, key, []byte(was))
	}
	drop(t, dir, key)
	drop(t, dir, crt)
	r := rendered(t, external(hostsOf("cp-1 w-1")), dir)
	authority.answer(t, dir, r.Pending)
	if r = rendered(t, external(hostsOf("cp-1 w-1")), dir); len(r.Pending) > 0 || !strings.Contains(next(r), "boot worker w-1") {
		t.Errorf("%q, %q", r.Pending, r.Next)
	}
	if _, err := os.Stat(filepath.Join(dir, key)); err != nil {
		t.Error(err)
	}
}

// Files of an external authority that are there before the first rendering are nobody's requests.
func TestExternalForeignFiles(t *testing.T) {
	for _, name := range []string{"pki/admin.crt", "pki/admin.key", "pki/hosts/cp-1/kubelet.crt"} {
		dir := t.TempDir()
		put(t, dir, name, []byte("mine"))
		_, err := Render(t.Context(), parse(t, with("pki: {mode: external}")), Options{Dir: dir, Now: now})
		if err == nil || !strings.Contains(err.Error(), name) || fault.ClassOf(err) != fault.Config || read(t, dir, name) != "mine" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

// A certificate for a key that is elsewhere: it fits that key and no authority's key leaves.
func TestForKey(t *testing.T) {
	m := &Maker{Algorithm: node.ECDSAP256, CAValidity: time.Hour, Validity: time.Hour, Now: time.Now()}
	key, err := m.Key()
	if err != nil {
		t.Fatal(err)
	}
	ca, err := m.Authority(Spec{Name: "ca", CommonName: "kubernetes"}, key)
	if err != nil {
		t.Fatal(err)
	}
	own, err := m.Key()
	if err != nil {
		t.Fatal(err)
	}
	text, err := PublicPEM(own)
	if err != nil {
		t.Fatal(err)
	}
	public, err := ParsePublicKey(text)
	if err != nil {
		t.Fatal(err)
	}
	spec := Users("")["admin.conf"]
	cert, err := m.ForKey(spec, public, ca)
	if err != nil {
		t.Fatal(err)
	}
	if err := Fits(spec, cert, own, ca.Cert, time.Now()); err != nil {
		t.Error(err)
	}
	if _, err := m.ForKey(spec, public, &Pair{Cert: ca.Cert}); err == nil {
		t.Error("signed without the authority's key")
	}

	private, err := KeyPEM(own)
	if err != nil {
		t.Fatal(err)
	}
	edwards, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(bytes.Repeat([]byte{1}, ed25519.PublicKeySize)))
	if err != nil {
		t.Fatal(err)
	}
	for want, text := range map[string]string{
		"no PEM block":        "x",
		"something other":     string(private),
		"something other ":    string(text) + string(private),
		"does not hold":       strings.Replace(string(text), "M", "A", 1),
		"type ed25519.Public": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: edwards})),
	} {
		if _, err := ParsePublicKey([]byte(text)); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%v, want %q", err, want)
		} else if strings.Contains(err.Error(), strings.Split(string(private), "\n")[1]) {
			t.Error("the error quotes a key")
		}
	}
	if _, ok := public.(*ecdsa.PublicKey); !ok {
		t.Errorf("%T", public)
	}
}

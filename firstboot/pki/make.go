// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

// Backdate is how far before now a certificate becomes valid, so that peers whose clock is a
// little behind accept it.
const Backdate = 5 * time.Minute

// Maker makes keys and certificates.
type Maker struct {
	Algorithm            node.Algorithm
	CAValidity, Validity time.Duration
	// Now is the moment of first boot.
	Now time.Time
	// RenewBefore makes Ensure replace leaves that expire within this time from Now, as Lasts says.
	RenewBefore time.Duration
	// Rand yields serial numbers and signatures; nil means crypto/rand.
	Rand io.Reader
	// NewKey replaces GenerateKey.
	NewKey func(node.Algorithm) (crypto.Signer, error)
}

// Pair is a certificate and its key. Key is nil when only the certificate is known.
type Pair struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// CertPEM returns the certificate as PEM text.
func (p *Pair) CertPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Cert.Raw})
}

func (m *Maker) rand() io.Reader {
	if m.Rand == nil {
		return rand.Reader
	}
	return m.Rand
}

// Key makes a private key of the maker's algorithm.
func (m *Maker) Key() (crypto.Signer, error) {
	if m.NewKey != nil {
		return m.NewKey(m.Algorithm)
	}
	return GenerateKey(m.Algorithm, m.rand())
}

// serial returns a random positive number below 2^63.
func (m *Maker) serial() (*big.Int, error) {
	for {
		n, err := rand.Int(m.rand(), new(big.Int).Lsh(big.NewInt(1), 63))
		if err != nil || n.Sign() > 0 {
			return n, err
		}
	}
}

// Authority self-signs a certificate for key as spec says.
func (m *Maker) Authority(s Spec, key crypto.Signer) (*Pair, error) {
	tmpl, err := m.template(s, m.CAValidity)
	if err != nil {
		return nil, err
	}
	tmpl.IsCA = true
	tmpl.KeyUsage |= x509.KeyUsageCertSign
	return m.sign(s, tmpl, tmpl, key, key)
}

// SelfSigned makes a key and a certificate for it that no authority stands behind. It is
// valid for as long as an authority, because nothing renews it.
func (m *Maker) SelfSigned(s Spec) (*Pair, error) {
	key, err := m.Key()
	if err != nil {
		return nil, fmt.Errorf("certificate %s: making its key: %w", s.Name, err)
	}
	tmpl, err := m.template(s, m.CAValidity)
	if err != nil {
		return nil, err
	}
	return m.sign(s, tmpl, tmpl, key, key)
}

// Leaf makes a key and a certificate for it, signed by ca.
func (m *Maker) Leaf(s Spec, ca *Pair) (*Pair, error) {
	if ca.Key == nil {
		return nil, fmt.Errorf("certificate %s (CN %s): the private key of its authority is not on this machine", s.Name, s.CommonName)
	}
	key, err := m.Key()
	if err != nil {
		return nil, fmt.Errorf("certificate %s: making its key: %w", s.Name, err)
	}
	tmpl, err := m.template(s, m.Validity)
	if err != nil {
		return nil, err
	}
	return m.sign(s, tmpl, ca.Cert, key, ca.Key)
}

func (m *Maker) template(s Spec, validity time.Duration) (*x509.Certificate, error) {
	serial, err := m.serial()
	if err != nil {
		return nil, fmt.Errorf("certificate %s: making its serial number: %w", s.Name, err)
	}
	now := m.Now.UTC().Truncate(time.Second)
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: s.CommonName, Organization: s.Organization},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              now.Add(validity),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		BasicConstraintsValid: true,
		DNSNames:              s.DNS,
	}
	if s.Server {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if s.Client {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	for _, a := range s.IPs {
		t.IPAddresses = append(t.IPAddresses, a.AsSlice())
	}
	return t, nil
}

func (m *Maker) sign(s Spec, tmpl, parent *x509.Certificate, key, signer crypto.Signer) (*Pair, error) {
	der, err := x509.CreateCertificate(m.rand(), tmpl, parent, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("certificate %s (CN %s): signing: %w", s.Name, s.CommonName, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate %s (CN %s): reading back: %w", s.Name, s.CommonName, err)
	}
	return &Pair{Cert: cert, Key: key}, nil
}

// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// ParsePublicKey reads a public key for which somebody else has the private one: one PEM block
// PUBLIC KEY (RFC 7468, section 13), RSA or ECDSA, and nothing else.
func ParsePublicKey(text []byte) (crypto.PublicKey, error) {
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM block PUBLIC KEY")
	}
	if block.Type != "PUBLIC KEY" || strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("something other than one PEM block PUBLIC KEY")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the PEM block PUBLIC KEY does not hold a usable key")
	}
	switch key.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey:
		return key, nil
	}
	return nil, fmt.Errorf("a public key of type %T; use RSA or ECDSA", key)
}

// ForKey makes a certificate, signed by ca, for a key that is elsewhere.
func (m *Maker) ForKey(s Spec, key crypto.PublicKey, ca *Pair) (*x509.Certificate, error) {
	if ca.Key == nil {
		return nil, fmt.Errorf("certificate %s (CN %s): the private key of its authority is not on this machine", s.Name, s.CommonName)
	}
	tmpl, err := m.template(s, m.Validity)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(m.rand(), tmpl, ca.Cert, key, ca.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s (CN %s): signing: %w", s.Name, s.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

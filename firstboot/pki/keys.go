// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

// Algorithms lists the accepted key algorithms, the default first.
var Algorithms = []node.Algorithm{node.ECDSAP256, node.ECDSAP384, node.RSA2048, node.RSA3072, node.RSA4096}

// GenerateKey makes a private key.
func GenerateKey(a node.Algorithm, random io.Reader) (crypto.Signer, error) {
	switch a {
	case node.ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), random)
	case node.ECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), random)
	case node.RSA2048:
		return rsa.GenerateKey(random, 2048)
	case node.RSA3072:
		return rsa.GenerateKey(random, 3072)
	case node.RSA4096:
		return rsa.GenerateKey(random, 4096)
	}
	return nil, fmt.Errorf("pki.algorithm: %q is not a key algorithm; allowed: %v", a, Algorithms)
}

// KeyPEM encodes a private key: PKCS #1 "RSA PRIVATE KEY" or SEC 1 "EC PRIVATE KEY".
func KeyPEM(key crypto.Signer) ([]byte, error) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}), nil
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(k)
		if err != nil {
			return nil, errors.New("encoding an EC private key failed") // the cause could quote the key
		}
		return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
	}
	return nil, fmt.Errorf("keys of type %T are not supported; use RSA or ECDSA", key)
}

// PublicPEM encodes the public half as PKIX "PUBLIC KEY".
func PublicPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("encoding a public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// ParseKey reads the first private key of PEM text: PKCS #1, SEC 1 or PKCS #8, RSA or ECDSA.
// Its errors never quote the text.
func ParseKey(text []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		default: // "EC PARAMETERS" precedes a key written by openssl
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("the PEM block %q does not hold a usable private key", block.Type)
		}
		switch k := key.(type) {
		case *rsa.PrivateKey:
			return k, nil
		case *ecdsa.PrivateKey:
			return k, nil
		}
		return nil, fmt.Errorf("a private key of type %T; use RSA or ECDSA", key)
	}
	return nil, errors.New("no PEM block with a private key; expected RSA PRIVATE KEY, EC PRIVATE KEY or PRIVATE KEY")
}

// ParseCert reads the first certificate of PEM text.
func ParseCert(text []byte) (*x509.Certificate, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
	return nil, errors.New("no PEM block CERTIFICATE")
}

// Matches says whether key is the private half of cert's public key.
func Matches(cert *x509.Certificate, key crypto.Signer) bool {
	return SameKey(cert.PublicKey, key.Public())
}

// SameKey compares public keys of any algorithm.
func SameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// Pin is the discovery pin of an authority: "sha256:" and the hexadecimal SHA-256 of its
// SubjectPublicKeyInfo.
func Pin(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

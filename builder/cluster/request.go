// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"os"

	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// Object identifiers of RFC 5280, sections 4.2.1.3 and 4.2.1.12.
var (
	oidKeyUsage    = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidExtKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidServerAuth  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	oidClientAuth  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
)

// keepRequest returns the request in a file while it asks for the right thing, and otherwise
// a new one. Requests are signed with randomness, so a new one would always look changed.
func keepRequest(file string, spec pki.Spec, key crypto.Signer, m *pki.Maker) ([]byte, error) {
	if text, err := os.ReadFile(file); err == nil {
		if block, _ := pem.Decode(text); block != nil {
			req, err := x509.ParseCertificateRequest(block.Bytes)
			if err == nil && req.CheckSignature() == nil && sameRequest(req, spec, key) {
				return text, nil
			}
		}
	}
	usages := []asn1.ObjectIdentifier{}
	if spec.Server {
		usages = append(usages, oidServerAuth)
	}
	if spec.Client {
		usages = append(usages, oidClientAuth)
	}
	ext, err := asn1.Marshal(usages)
	if err != nil {
		return nil, err
	}
	// digitalSignature and keyEncipherment
	use, err := asn1.Marshal(asn1.BitString{Bytes: []byte{0xa0}, BitLength: 3})
	if err != nil {
		return nil, err
	}
	template := &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: spec.CommonName, Organization: spec.Organization}, DNSNames: spec.DNS,
		ExtraExtensions: []pkix.Extension{{Id: oidKeyUsage, Critical: true, Value: use}, {Id: oidExtKeyUsage, Value: ext}},
	}
	for _, a := range spec.IPs {
		template.IPAddresses = append(template.IPAddresses, a.AsSlice())
	}
	random := m.Rand
	if random == nil {
		random = rand.Reader
	}
	der, err := x509.CreateCertificateRequest(random, template, key)
	if err != nil {
		return nil, fmt.Errorf("the request for CN %s cannot be signed: %w", spec.CommonName, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

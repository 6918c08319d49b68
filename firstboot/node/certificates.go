// SPDX-License-Identifier: Apache-2.0

package node

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// CheckCertificates says what is wrong with text that others are verified against: PEM
// (RFC 7468) with certificates, at least one, and nothing else. Whoever puts a key beside its
// certificate would otherwise have it copied to where everybody may read it.
func CheckCertificates(text []byte) error {
	count := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("holds a %s beside certificates", strings.ToLower(block.Type))
		}
		count++
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("holds a damaged certificate (number %d)", count)
		}
	}
	if count == 0 {
		return errors.New("holds no certificate")
	}
	return nil
}

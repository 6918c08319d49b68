// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Valid checks the validity period against now.
func Valid(cert *x509.Certificate, now time.Time) error {
	if now.Before(cert.NotBefore) {
		return fmt.Errorf("not valid before %s, and it is %s", cert.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if now.After(cert.NotAfter) {
		return fmt.Errorf("expired at %s, and it is %s", cert.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// Lasts says that a certificate ends within before from now, or nil. Before is cut to two thirds
// of the certificate's own life, so that a new one is never due at once.
func Lasts(cert *x509.Certificate, now time.Time, before time.Duration) error {
	before = min(before, cert.NotAfter.Sub(cert.NotBefore)*2/3)
	if !now.Add(before).After(cert.NotAfter) {
		return nil
	}
	within := before.Round(time.Second).String()
	if days := int(before.Hours() / 24); days > 1 {
		within = fmt.Sprintf("%d days", days)
	}
	return fmt.Errorf("ends at %s, within %s", cert.NotAfter.UTC().Format(time.RFC3339), within)
}

// Allows says whether a certificate's key may be used so. One without the extension key usage
// restricts nothing (RFC 5280, section 4.2.1.3).
func Allows(cert *x509.Certificate, usage x509.KeyUsage) bool {
	return cert.KeyUsage == 0 || cert.KeyUsage&usage == usage
}

// ErrNotCovered reports a certificate that is right but for names and addresses that it lacks.
var ErrNotCovered = errors.New("it does not cover")

// Fits says why cert and key cannot serve as spec, or nil.
func Fits(s Spec, cert *x509.Certificate, key crypto.Signer, ca *x509.Certificate, now time.Time) error {
	if key == nil {
		return errors.New("its key is missing")
	}
	return FitsPublic(s, cert, key.Public(), ca, now)
}

// FitsPublic says why cert cannot serve as spec for whoever has the private half of key, or nil.
func FitsPublic(s Spec, cert *x509.Certificate, key crypto.PublicKey, ca *x509.Certificate, now time.Time) error {
	if !SameKey(cert.PublicKey, key) {
		return errors.New("its key belongs to another certificate")
	}
	if err := Valid(cert, now); err != nil {
		return err
	}
	if err := cert.CheckSignatureFrom(ca); err != nil {
		return fmt.Errorf("not signed by the authority CN %s", ca.Subject.CommonName)
	}
	if cert.Subject.CommonName != s.CommonName || !slices.Equal(cert.Subject.Organization, s.Organization) {
		return fmt.Errorf("its subject is CN %s O %v instead of CN %s O %v", cert.Subject.CommonName, cert.Subject.Organization, s.CommonName, s.Organization)
	}
	if s.Server && !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageServerAuth) ||
		s.Client && !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return errors.New("it lacks an extended key usage")
	}
	var missing []string
	for _, d := range s.DNS {
		if !slices.Contains(cert.DNSNames, d) {
			missing = append(missing, d)
		}
	}
	for _, a := range s.IPs {
		if cert.VerifyHostname(a.String()) != nil {
			missing = append(missing, a.String())
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w %v", ErrNotCovered, missing)
	}
	return nil
}

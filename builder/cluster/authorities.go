// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// pkiDir holds authorities in a rendered directory, with the names they have on a node.
const pkiDir = "pki"

// authoritySpecs are the three authorities of a cluster.
func authoritySpecs() []pki.Spec {
	var out []pki.Spec
	for _, s := range pki.Specs(&kubeadm.Config{}) {
		if s.IsCA() {
			out = append(out, s)
		}
	}
	return out
}

// authorities are what certificates are signed with.
type authorities struct {
	// pairs by name; a pair without a key is of another's authority.
	pairs map[string]*pki.Pair
	// sa signs tokens of service accounts.
	sa crypto.Signer
	// outputs are the files of the rendered directory, keys before certificates.
	outputs []output
}

// ca returns the authority of the cluster, or nil.
func (a *authorities) ca() *pki.Pair { return a.pairs[pki.CA] }

// files returns what a control plane is given of the authorities.
func (a *authorities) files(keys bool) ([]file, error) {
	var out []file
	for _, s := range authoritySpecs() {
		p := a.pairs[s.Name]
		out = append(out, file{path: kubeadm.PKIDir + "/" + s.Name + ".crt", mode: 0o644, data: p.CertPEM()})
		if !keys {
			continue
		}
		text, err := pki.KeyPEM(p.Key)
		if err != nil {
			return nil, err
		}
		out = append(out, file{path: kubeadm.PKIDir + "/" + s.Name + ".key", mode: 0o600, data: text})
	}
	text, err := pki.KeyPEM(a.sa)
	return append(out, file{path: kubeadm.PKIDir + "/" + pki.ServiceAccount + ".key", mode: 0o600, data: text}), err
}

func (a *authorities) output(name string, mode os.FileMode, text []byte, what string) {
	a.outputs = append(a.outputs, output{File: kubeadm.File{Path: "/" + pkiDir + "/" + name, Mode: mode, Data: text}, Subject: what})
}

// lost is what to do about files that hosts were given and that are gone or damaged.
const lost = "restore the files from a backup; with their authorities gone, a cluster takes no new hosts"

// ensureAuthorities reads the authorities in dir and makes those that mode shared lacks. New
// says that nothing was rendered before: otherwise a missing authority is a loss. Files that are
// there stay as they are, byte for byte.
func (s *Source) ensureAuthorities(dir string, m *pki.Maker, isNew bool) (*authorities, error) {
	a := &authorities{pairs: map[string]*pki.Pair{}}
	var errs []error
	for _, spec := range authoritySpecs() {
		pair, err := s.ensureAuthority(a, dir, spec, m, isNew)
		if err != nil {
			errs = append(errs, err)
		}
		if pair != nil {
			a.pairs[spec.Name] = pair
		}
	}
	if s.Cluster.PKI.Mode != node.PKIGenerate {
		errs = append(errs, a.ensureServiceAccount(dir, m, isNew))
	}
	return a, errors.Join(errs...)
}

func (s *Source) ensureAuthority(a *authorities, dir string, spec pki.Spec, m *pki.Maker, isNew bool) (*pki.Pair, error) {
	have, err := readStored(dir, spec.Name)
	if err != nil {
		return nil, err
	}
	base, mode := filepath.Join(dir, pkiDir, spec.Name), s.Cluster.PKI.Mode
	refuse := func(hint, format string, args ...any) (*pki.Pair, error) {
		if !isNew && hint == "" {
			hint = lost
		}
		return nil, fault.New(fault.Config, cmp.Or(hint, "put an authority there that can be used, or none where rendering is to make one"), format, args...)
	}
	if have.cert != nil {
		if n := bytes.Count(have.certText, []byte("-----BEGIN CERTIFICATE-----")); n > 1 {
			return refuse("leave the certificate of the authority itself in the file, the one that signs", "%s.crt holds %d certificates, and hosts trust one", base, n)
		}
		if err := usable(spec, have.cert, m.Now); err != nil {
			return refuse("", "%s.crt: %w", base, err)
		}
		if have.key != nil && !pki.Matches(have.cert, have.key) {
			return refuse("", "%s.key does not belong to %s.crt", base, base)
		}
	}
	switch {
	case mode != node.PKIShared && have.key != nil:
		return refuse("move the key away to where that is; for keys in the directory render with pki.mode shared from the beginning",
			"%s.key is here, and pki.mode %s keeps keys of authorities elsewhere", base, mode)
	case mode != node.PKIShared:
		if have.cert == nil {
			return nil, nil
		}
		return &pki.Pair{Cert: have.cert}, nil
	case have.cert != nil && have.key == nil && isNew:
		return refuse("put the key beside the certificate, or choose pki.mode external", "%s.key is missing, and pki.mode shared gives it to every control plane", base)
	case have.cert != nil && have.key == nil:
		return refuse(lost, "%s.key is missing, and pki.mode shared gives it to every control plane", base)
	case have.cert == nil && !isNew:
		return refuse(lost, "%s.crt is missing, and the cluster was rendered before", base)
	case have.key == nil:
		made, err := newKey(m)
		if err != nil {
			return nil, fmt.Errorf("%s.key: %w", base, err)
		}
		have.key, have.keyText = made.key, made.keyText
	}
	pair := &pki.Pair{Cert: have.cert, Key: have.key}
	if have.cert == nil { // a rendering that was cut short may have left the key alone
		if pair, err = m.Authority(spec, have.key); err != nil {
			return nil, err
		}
		have.certText = pair.CertPEM()
	}
	what := "authority " + spec.CommonName
	a.output(spec.Name+".key", 0o600, have.keyText, what)
	a.output(spec.Name+".crt", 0o644, have.certText, what)
	return pair, nil
}

func (a *authorities) ensureServiceAccount(dir string, m *pki.Maker, isNew bool) error {
	have, err := readStored(dir, pki.ServiceAccount)
	if err == nil && have.key == nil {
		if !isNew {
			return fault.New(fault.Config, lost, "%s/%s/sa.key is missing, and the cluster was rendered before", dir, pkiDir)
		}
		have, err = newKey(m)
	}
	if err != nil {
		return err
	}
	a.sa = have.key
	a.output(pki.ServiceAccount+".key", 0o600, have.keyText, "key of service accounts")
	return nil
}

// stored is what there is of a certificate and its key; absent parts are nil. The texts are
// those of the files.
type stored struct {
	cert              *x509.Certificate
	key               crypto.Signer
	certText, keyText []byte
}

// newKey makes a key and the text of its file.
func newKey(m *pki.Maker) (s stored, err error) {
	if s.key, err = m.Key(); err == nil {
		s.keyText, err = pki.KeyPEM(s.key)
	}
	return s, err
}

// readStored reads a certificate and its key. Errors never quote a key.
func readStored(dir, name string) (s stored, err error) {
	base := filepath.Join(dir, pkiDir, name)
	if s.certText, err = os.ReadFile(base + ".crt"); err == nil {
		if s.cert, err = pki.ParseCert(s.certText); err != nil {
			return stored{}, fault.New(fault.Config, "put the certificate there as PEM text; 'openssl x509 -inform der' makes that of DER", "%s.crt: %w", base, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return stored{}, err
	}
	if s.keyText, err = os.ReadFile(base + ".key"); err == nil {
		if s.key, err = pki.ParseKey(s.keyText); err != nil {
			return stored{}, fault.New(fault.Config, "restore the key from a backup, as PEM text without a password", "%s.key: %w", base, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return stored{}, err
	}
	return s, nil
}

// readPair is readStored without the texts.
func readPair(dir, name string) (*x509.Certificate, crypto.Signer, error) {
	s, err := readStored(dir, name)
	return s.cert, s.key, err
}

// usable says why a certificate cannot be the authority of spec at now.
func usable(spec pki.Spec, cert *x509.Certificate, now time.Time) error {
	switch {
	case !cert.IsCA:
		return errors.New("not a certificate authority")
	case !pki.Allows(cert, x509.KeyUsageCertSign):
		return errors.New("its key usage does not let it sign certificates (keyCertSign)")
	case now.Before(cert.NotBefore):
		return fmt.Errorf("not valid before %s; check the clock", cert.NotBefore.UTC().Format(time.RFC3339))
	case now.After(cert.NotAfter):
		return fmt.Errorf("expired at %s; every host of the cluster needs another authority", cert.NotAfter.UTC().Format(time.RFC3339))
	}
	if len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) == 0 || slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return nil
	}
	for _, s := range pki.Specs(&kubeadm.Config{}) { // those of its certificates bound what they are good for
		if s.Signer == spec.Name && (s.Server && !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageServerAuth) ||
			s.Client && !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth)) {
			return fmt.Errorf("its extended key usage does not let it sign what %s needs (server and client authentication)", s.Name)
		}
	}
	return nil
}

// expiring warns of authorities that end before what they are to sign now.
func (r *renderer) expiring() {
	if r.Cluster.PKI.Mode == node.PKIExternal {
		return
	}
	until := r.Now.Add(r.Cluster.PKI.Validity.D()).Truncate(time.Second)
	for _, spec := range authoritySpecs() {
		if p := r.cas.pairs[spec.Name]; p != nil && p.Cert.NotAfter.Before(until) {
			r.warn("pki.validity", fmt.Sprintf("is longer than %s/%s.crt lasts: it ends at %s, and so does the cluster", pkiDir, spec.Name, p.Cert.NotAfter.UTC().Format(time.RFC3339)))
		}
	}
}

// pins returns what joining machines know the cluster's authority by.
func (a *authorities) pins() []string {
	if a.ca() == nil {
		return nil
	}
	return []string{pki.Pin(a.ca().Cert)}
}

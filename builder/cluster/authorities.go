// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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

// ensureAuthorities reads the authorities in dir and makes those that mode shared lacks. New
// says that nothing was rendered before: otherwise a missing authority is a loss.
func (s *Source) ensureAuthorities(dir string, m *pki.Maker, isNew bool) (*authorities, error) {
	a := &authorities{pairs: map[string]*pki.Pair{}}
	mode := s.Cluster.PKI.Mode
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
	if mode != node.PKIGenerate {
		errs = append(errs, a.ensureServiceAccount(dir, m, isNew))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fault.Wrap(fault.Config, err, "restore the files from a backup; with their authorities gone, a cluster takes no new hosts")
	}
	return a, nil
}

func (s *Source) ensureAuthority(a *authorities, dir string, spec pki.Spec, m *pki.Maker, isNew bool) (*pki.Pair, error) {
	cert, key, err := readPair(dir, spec.Name)
	if err != nil {
		return nil, err
	}
	base, mode := filepath.Join(dir, pkiDir, spec.Name), s.Cluster.PKI.Mode
	if cert != nil {
		if err := usable(cert, m.Now); err != nil {
			return nil, fmt.Errorf("%s.crt: %w", base, err)
		}
		if key != nil && !pki.Matches(cert, key) {
			return nil, fmt.Errorf("%s.key does not belong to %s.crt", base, base)
		}
	}
	switch {
	case mode != node.PKIShared && key != nil:
		return nil, fmt.Errorf("%s.key is here, and pki.mode %s keeps keys of authorities elsewhere; remove it, or choose pki.mode shared", base, mode)
	case mode != node.PKIShared:
		if cert == nil {
			return nil, nil
		}
		return &pki.Pair{Cert: cert}, nil
	case cert != nil && key == nil:
		return nil, fmt.Errorf("%s.key is missing, and pki.mode shared gives it to every control plane", base)
	case cert == nil && !isNew:
		return nil, fmt.Errorf("%s.crt is missing, and the cluster was rendered before", base)
	case key == nil:
		if key, err = m.Key(); err != nil {
			return nil, fmt.Errorf("%s.key: %w", base, err)
		}
	}
	pair := &pki.Pair{Cert: cert, Key: key}
	if cert == nil { // a rendering that was cut short may have left the key alone
		if pair, err = m.Authority(spec, key); err != nil {
			return nil, err
		}
	}
	text, err := pki.KeyPEM(key)
	if err != nil {
		return nil, fmt.Errorf("%s.key: %w", base, err)
	}
	what := "authority " + spec.CommonName
	a.output(spec.Name+".key", 0o600, text, what)
	a.output(spec.Name+".crt", 0o644, pair.CertPEM(), what)
	return pair, nil
}

func (a *authorities) ensureServiceAccount(dir string, m *pki.Maker, isNew bool) error {
	_, key, err := readPair(dir, pki.ServiceAccount)
	if err == nil && key == nil {
		if !isNew {
			return fmt.Errorf("%s/%s/sa.key is missing, and the cluster was rendered before", dir, pkiDir)
		}
		key, err = m.Key()
	}
	if err != nil {
		return err
	}
	text, err := pki.KeyPEM(key)
	if err != nil {
		return err
	}
	a.sa = key
	a.output(pki.ServiceAccount+".key", 0o600, text, "key of service accounts")
	return nil
}

// readPair reads what there is of a certificate and its key; absent parts are nil. Errors
// never quote a key.
func readPair(dir, name string) (cert *x509.Certificate, key crypto.Signer, err error) {
	base := filepath.Join(dir, pkiDir, name)
	if text, err := os.ReadFile(base + ".crt"); err == nil {
		if cert, err = pki.ParseCert(text); err != nil {
			return nil, nil, fmt.Errorf("%s.crt: %w", base, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	if text, err := os.ReadFile(base + ".key"); err == nil {
		if key, err = pki.ParseKey(text); err != nil {
			return nil, nil, fmt.Errorf("%s.key: %w", base, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	return cert, key, nil
}

// usable says why a certificate cannot be an authority at now.
func usable(cert *x509.Certificate, now time.Time) error {
	switch {
	case !cert.IsCA:
		return errors.New("not a certificate authority")
	case now.Before(cert.NotBefore):
		return fmt.Errorf("not valid before %s; check the clock", cert.NotBefore.UTC().Format(time.RFC3339))
	case now.After(cert.NotAfter):
		return fmt.Errorf("expired at %s; every host of the cluster needs another authority", cert.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// pins returns what joining machines know the cluster's authority by.
func (a *authorities) pins() []string {
	if a.ca() == nil {
		return nil
	}
	return []string{pki.Pin(a.ca().Cert)}
}

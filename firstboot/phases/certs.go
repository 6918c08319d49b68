// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

func certs(ctx context.Context, s *State) error {
	r, err := pki.Ensure(ctx, s.Root, s.Config, s.maker())
	if err != nil {
		return err
	}
	for _, o := range r.Outcomes {
		s.Log.Info("certificate", "name", o.Name, "action", string(o.Action), "reason", o.Reason, "notAfter", o.NotAfter)
	}
	return nil
}

// certsThere verifies every certificate on disk against its authority.
func certsThere(_ context.Context, s *State) error {
	now := s.Start
	pairs := map[string]*pki.Pair{}
	for _, spec := range pki.Specs(s.Config) {
		base := s.path(filepath.Join(kubeadm.PKIDir, spec.Name))
		text, err := os.ReadFile(base + ".crt")
		if err != nil {
			return err
		}
		cert, err := pki.ParseCert(text)
		if err != nil {
			return fmt.Errorf("%s.crt: %w", spec.Name, err)
		}
		pairs[spec.Name] = &pki.Pair{Cert: cert}
		if spec.IsCA() {
			continue
		}
		text, err = os.ReadFile(base + ".key")
		if err != nil {
			return err
		}
		key, err := pki.ParseKey(text)
		if err != nil {
			return fmt.Errorf("%s.key: %w", spec.Name, err)
		}
		if err := pki.Fits(spec, cert, key, pairs[spec.Signer].Cert, now); err != nil {
			return fmt.Errorf("%s.crt: %w", spec.Name, err)
		}
	}
	for _, name := range []string{"sa.key", "sa.pub"} {
		if _, err := os.Stat(s.path(filepath.Join(kubeadm.PKIDir, name))); err != nil {
			return err
		}
	}
	return nil
}

// kubeconfigNames are the files with an embedded certificate. kubelet.conf is not among
// them: it refers to the certificate file that the kubelet renews, from the beginning.
func (s *State) kubeconfigNames() []string {
	var names []string
	for _, n := range kubeconfig.Names(!s.joined()) {
		if n != kubeconfig.Kubelet {
			names = append(names, n)
		}
	}
	return names
}

func kubeconfigs(ctx context.Context, s *State) error {
	ca, err := s.authority()
	if err != nil {
		return err
	}
	if ca.Key == nil {
		return kubeconfigsThere(ctx, s)
	}
	if _, err := kubeconfig.Ensure(ctx, s.Root, s.Config, s.kubeconfigNames(), ca, s.maker()); err != nil {
		return err
	}
	return s.kubeletCredentials(ca)
}

func kubeconfigsThere(_ context.Context, s *State) error {
	ca, err := s.authority()
	if err != nil {
		return err
	}
	for _, name := range append(s.kubeconfigNames(), kubeconfig.Kubelet) {
		text, err := os.ReadFile(s.path(filepath.Join(kubeadm.Dir, name)))
		if err != nil {
			return err
		}
		if err := kubeconfig.Fits(s.Config, name, text, ca, s.Start); err != nil {
			return fmt.Errorf("%s/%s: %w", kubeadm.Dir, name, err)
		}
	}
	return s.kubeletPEMFits(ca, s.Start)
}

// kubeletCredentials writes the kubelet's client certificate where the kubelet itself
// keeps it and a kubelet.conf that refers to it. kubeadm starts the kubelet with an
// embedded certificate, lets it copy that to the same place, rewrites kubelet.conf and
// restarts the kubelet; the result is the same, without the restart.
func (s *State) kubeletCredentials(ca *pki.Pair) error {
	if s.kubeletPEMFits(ca, s.Start) != nil {
		if err := s.makeKubeletPEM(ca, s.maker()); err != nil {
			return err
		}
	}
	if s.kubeletFollows() {
		return nil // until phase kubelet-connect, which restarts it
	}
	_, err := s.pointKubelet(s.kubeletServer())
	return err
}

// makeKubeletPEM gives the kubelet another certificate. Written in this order, a power cut leaves
// a file nothing refers to, then a link nothing refers to, then everything.
func (s *State) makeKubeletPEM(ca *pki.Pair, m *pki.Maker) error {
	spec := pki.Users(s.Config.NodeName)[kubeconfig.Kubelet]
	spec.Name = kubeconfig.Kubelet
	pair, err := m.Leaf(spec, ca)
	if err != nil {
		return err
	}
	key, err := pki.KeyPEM(pair.Key)
	if err != nil {
		return fmt.Errorf("the kubelet's key: %w", err)
	}
	dir := filepath.Dir(kubeadm.KubeletPEM)
	// The directory and the name are those of client-go's certificate store.
	name := filepath.Join(dir, "kubelet-client-"+m.Now.Format("2006-01-02-15-04-05")+".pem")
	if err := kubeadm.MakeDir(s.Root, kubeadm.KubeletDir); err != nil {
		return err
	}
	if err := s.removeTorn(dir, "kubelet-client-*.pem"); err != nil {
		return err
	}
	if _, err := kubeadm.WriteFiles(s.Root, kubeadm.File{Path: name, Mode: 0o600, Data: append(pair.CertPEM(), key...)}); err != nil {
		return err
	}
	return replaceLink(s.path(kubeadm.KubeletPEM), name)
}

// removeTorn removes what a cut left of files whose names say when they were made: a later
// attempt writes another one, and would leave a key behind that nothing refers to.
func (s *State) removeTorn(dir, pattern string) error {
	left, err := filepath.Glob(s.path(kubeadm.Unfinished(filepath.Join(dir, pattern))))
	for _, f := range left {
		err = errors.Join(err, os.Remove(f))
	}
	return err
}

// kubeletPEMFits checks the certificate behind kubelet-client-current.pem.
func (s *State) kubeletPEMFits(ca *pki.Pair, now time.Time) error {
	_, err := s.kubeletPEM(ca, now)
	return err
}

// kubeletPEM returns the certificate behind kubelet-client-current.pem if it fits.
func (s *State) kubeletPEM(ca *pki.Pair, now time.Time) (*x509.Certificate, error) {
	target, err := os.Readlink(s.path(kubeadm.KubeletPEM))
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(s.path(filepath.Join(filepath.Dir(kubeadm.KubeletPEM), filepath.Base(target))))
	if err != nil {
		return nil, err
	}
	cert, err := pki.ParseCert(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kubeadm.KubeletPEM, err)
	}
	// The kubelet may have renewed it since, with a key of its own choosing.
	if err := cert.CheckSignatureFrom(ca.Cert); err != nil {
		return nil, fmt.Errorf("%s is not signed by the cluster's authority: %w", kubeadm.KubeletPEM, err)
	}
	if want := pki.Users(s.Config.NodeName)[kubeconfig.Kubelet].CommonName; cert.Subject.CommonName != want {
		return nil, fmt.Errorf("%s is for %s, not for %s", kubeadm.KubeletPEM, cert.Subject.CommonName, want)
	}
	if err := pki.Valid(cert, now); err != nil {
		return nil, fmt.Errorf("%s: %w", kubeadm.KubeletPEM, err)
	}
	return cert, nil
}

// replaceLink makes link point to target, atomically.
func replaceLink(link, target string) error {
	tmp := link + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, link); err != nil {
		return err
	}
	return kubeadm.SyncDir(filepath.Dir(link))
}

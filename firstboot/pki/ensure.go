// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// Action is what Ensure did with one certificate or key pair.
type Action string

// The actions.
const (
	Created  Action = "created"
	Kept     Action = "kept"
	Replaced Action = "replaced"
)

// Outcome reports one certificate, or the service account key pair (without NotAfter).
type Outcome struct {
	Name     string
	Action   Action
	Reason   string // why it was replaced
	NotAfter time.Time
}

// Result is what Ensure found and made.
type Result struct {
	Outcomes []Outcome
	// CA signs the kubeconfigs; its Key is nil with an external authority.
	CA *Pair
}

// Ensure brings /etc/kubernetes/pki below root to the state Specs describes.
//
// An authority on disk is used as it is, and never replaced; a key without a certificate (a
// first boot cut short between the two writes) gets one. A leaf is kept while it chains to its
// authority, has its key, covers the wanted names, and is valid now and after the maker's
// RenewBefore; otherwise it is made again. Keys are written before certificates, so a certificate on disk implies its key. An
// authority whose key is absent is external: its leaves must be there and fit.
//
// Independent keys are made in parallel. All problems are reported together.
func Ensure(ctx context.Context, root string, c *kubeadm.Config, m *Maker) (*Result, error) {
	e := &ensurer{dir: filepath.Join(root, kubeadm.PKIDir), root: root, mode: c.PKIMode, m: m}
	specs := Specs(c)
	outcomes := make([]Outcome, len(specs)+1)
	errs := make([]error, len(specs)+1)
	cas := map[string]*Pair{}
	var mu sync.Mutex
	each := func(want func(Spec) bool, do func(i int, s Spec) error) {
		var wg sync.WaitGroup
		for i, s := range specs {
			if want(s) {
				wg.Go(func() {
					if errs[i] = ctx.Err(); errs[i] == nil {
						errs[i] = do(i, s)
					}
				})
			}
		}
		wg.Wait()
	}
	var sa sync.WaitGroup
	sa.Go(func() { outcomes[len(specs)], errs[len(specs)] = e.serviceAccount() })
	each(Spec.IsCA, func(i int, s Spec) error {
		pair, o, err := e.authority(s)
		outcomes[i] = o
		mu.Lock()
		defer mu.Unlock()
		cas[s.Name] = pair
		return err
	})
	each(func(s Spec) bool { return cas[s.Signer] != nil }, func(i int, s Spec) (err error) {
		outcomes[i], err = e.leaf(s, cas[s.Signer])
		return err
	})
	sa.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Result{Outcomes: outcomes, CA: cas[CA]}, nil
}

// External says whether the cluster authority on disk came without its private key.
func External(root string) bool {
	dir := filepath.Join(root, kubeadm.PKIDir)
	_, noCert := os.Stat(filepath.Join(dir, "ca.crt"))
	_, noKey := os.Stat(filepath.Join(dir, "ca.key"))
	return noCert == nil && errors.Is(noKey, fs.ErrNotExist)
}

type ensurer struct {
	dir, root string
	mode      node.PKIMode
	m         *Maker
}

func (e *ensurer) path(name string) string { return kubeadm.PKIDir + "/" + name }

// read loads what there is of a pair; absent parts are nil.
func (e *ensurer) read(name string) (*x509.Certificate, crypto.Signer, error) {
	var cert *x509.Certificate
	var key crypto.Signer
	text, err := os.ReadFile(filepath.Join(e.dir, name+".crt"))
	if err == nil {
		if cert, err = ParseCert(text); err != nil {
			return nil, nil, fmt.Errorf("%s.crt: %w", e.path(name), err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	text, err = os.ReadFile(filepath.Join(e.dir, name+".key"))
	if err == nil {
		if key, err = ParseKey(text); err != nil {
			return nil, nil, fmt.Errorf("%s.key: %w", e.path(name), err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	return cert, key, nil
}

func (e *ensurer) write(name string, p *Pair) error {
	key, err := KeyPEM(p.Key)
	if err != nil {
		return fmt.Errorf("%s.key: %w", e.path(name), err)
	}
	_, err = kubeadm.WriteFiles(e.root,
		kubeadm.File{Path: e.path(name + ".key"), Mode: 0o600, Data: key},
		kubeadm.File{Path: e.path(name + ".crt"), Mode: 0o644, Data: p.CertPEM()})
	return err
}

func (e *ensurer) authority(s Spec) (*Pair, Outcome, error) {
	o := Outcome{Name: s.Name, Action: Kept}
	cert, key, err := e.read(s.Name)
	if err != nil {
		return nil, o, err
	}
	file := e.path(s.Name + ".crt")
	switch {
	case cert != nil:
		o.NotAfter = cert.NotAfter
		if !cert.IsCA {
			return nil, o, fmt.Errorf("%s: not a certificate authority; deliver one or remove the file", file)
		}
		if key != nil && !Matches(cert, key) {
			return nil, o, fmt.Errorf("%s: its public key is not that of %s; deliver the pair that belongs together", file, e.path(s.Name+".key"))
		}
		if err := Valid(cert, e.m.Now); err != nil {
			return nil, o, fmt.Errorf("%s: %w; check the clock, or deliver a valid authority", file, err)
		}
		return &Pair{Cert: cert, Key: key}, o, nil
	case e.mode == node.PKIShared || e.mode == node.PKIExternal:
		return nil, o, fmt.Errorf("%s: missing, and pki.mode %s makes no authorities; deliver it through the Ignition config", file, e.mode)
	case key == nil:
		if key, err = e.m.Key(); err != nil {
			return nil, o, fmt.Errorf("%s: making its key: %w", file, err)
		}
	}
	pair, err := e.m.Authority(s, key)
	if err == nil {
		err = e.write(s.Name, pair)
	}
	if err != nil {
		return nil, o, err
	}
	o.Action, o.NotAfter = Created, pair.Cert.NotAfter
	return pair, o, nil
}

func (e *ensurer) leaf(s Spec, ca *Pair) (Outcome, error) {
	o := Outcome{Name: s.Name, Action: Created}
	cert, key, err := e.read(s.Name)
	if err == nil && cert != nil {
		o.Action = Replaced
		if err = Fits(s, cert, key, ca.Cert, e.m.Now); err == nil {
			err = Lasts(cert, e.m.Now, e.m.RenewBefore)
		}
		if err == nil {
			o.Action, o.NotAfter = Kept, cert.NotAfter
			return o, nil
		}
	}
	if err != nil {
		o.Action, o.Reason = Replaced, err.Error()
	}
	if ca.Key == nil {
		if err == nil {
			err = errors.New("missing")
		}
		return o, fmt.Errorf("%s.crt: %w, and the key of its authority %s is not on this machine; deliver the certificate and its key", e.path(s.Name), err, s.Signer)
	}
	pair, err := e.m.Leaf(s, ca)
	if err == nil {
		err = e.write(s.Name, pair)
	}
	if err == nil {
		o.NotAfter = pair.Cert.NotAfter
	}
	return o, err
}

func (e *ensurer) serviceAccount() (Outcome, error) {
	o := Outcome{Name: ServiceAccount, Action: Kept}
	_, key, err := e.read(ServiceAccount)
	if err != nil {
		return o, err
	}
	if key == nil {
		if e.mode == node.PKIShared || e.mode == node.PKIExternal {
			return o, fmt.Errorf("%s: missing, and pki.mode %s makes none; deliver it through the Ignition config", e.path("sa.key"), e.mode)
		}
		if key, err = e.m.Key(); err != nil {
			return o, fmt.Errorf("%s: %w", e.path("sa.key"), err)
		}
		o.Action = Created
	}
	private, err := KeyPEM(key)
	if err != nil {
		return o, fmt.Errorf("%s: %w", e.path("sa.key"), err)
	}
	public, err := PublicPEM(key)
	if err != nil {
		return o, err
	}
	var files []kubeadm.File
	if o.Action == Created {
		files = append(files, kubeadm.File{Path: e.path("sa.key"), Mode: 0o600, Data: private})
	}
	// An existing sa.pub may list more keys than ours, to verify tokens of a former key.
	if old, err := os.ReadFile(filepath.Join(e.dir, "sa.pub")); err != nil || !bytes.Contains(old, bytes.TrimSpace(public)) {
		files = append(files, kubeadm.File{Path: e.path("sa.pub"), Mode: 0o600, Data: append(public, old...)})
	}
	_, err = kubeadm.WriteFiles(e.root, files...)
	return o, err
}

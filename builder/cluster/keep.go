// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// keep reads what earlier renderings left, and makes what is missing.
func (r *renderer) keep() error {
	c := r.Cluster
	var err error
	if r.before, err = ReadIndex(r.Options.Dir); err != nil && !errors.Is(err, ErrNotRendered) {
		return err
	}
	if r.secrets, err = readSecrets(r.Options.Dir, c.Name); err != nil {
		return err
	}
	if r.fresh = r.secrets == nil; r.fresh {
		if r.secrets, err = newSecrets(c.Name, r.Rand); err != nil {
			return err
		}
	} else if err := r.remember(); err != nil {
		return err
	}
	if err := r.secrets.found(c, r.known); err != nil {
		return err
	}
	text, err := r.secrets.encode()
	if err != nil {
		return err
	}
	// A directory of secrets does not belong into a repository. What users make of the file stays.
	ignore, err := os.ReadFile(filepath.Join(r.Options.Dir, ignoreFile))
	if r.fresh || err != nil {
		ignore = []byte("*\n")
	}
	r.add("/"+ignoreFile, 0o644, ignore, "keeps the directory out of repositories")
	r.add("/"+SecretsFile, 0o600, text, "tokens, keys and founders")
	if r.cas, err = r.ensureAuthorities(r.Options.Dir, r.maker, r.known == nil); err != nil {
		return err
	}
	r.outputs = append(r.outputs, r.cas.outputs...)
	r.material = &material{token: r.secrets.BootstrapToken, certificateKey: r.secrets.CertificateKey,
		callbackToken: r.callbackToken(), pins: r.cas.pins(), founders: r.secrets.Founders}
	r.material.adminKey, err = r.adminKey()
	return err
}

// ignoreFile keeps git from taking secrets.
const ignoreFile = ".gitignore"

// remember finds out which control planes earlier renderings knew: from the index, or, where that
// is lost, from the configs that are there.
func (r *renderer) remember() error {
	if r.before == nil {
		configs, err := filepath.Glob(filepath.Join(r.Options.Dir, "hosts", "*.ign"))
		for _, c := range configs {
			r.known = append(r.known, strings.TrimSuffix(filepath.Base(c), ".ign"))
		}
		return err
	}
	if was := r.before.PKIMode; was != r.Cluster.PKI.Mode {
		return fault.New(fault.Config, "put pki.mode "+string(was)+" back, or render a new cluster into another directory",
			"%s: pki.mode was %s when the cluster was first rendered, and is %s now", r.File, was, r.Cluster.PKI.Mode)
	}
	r.known = []string{}
	for _, h := range r.before.Hosts {
		if h.Role == node.ControlPlane {
			r.known = append(r.known, h.Name)
		}
	}
	return nil
}

// foreign reports files that somebody else made where a first rendering would put its own.
// Authorities are expected: users may bring theirs.
func (r *renderer) foreign() error {
	if !r.fresh {
		return nil
	}
	var found []string
	for _, o := range r.outputs {
		have, err := os.ReadFile(filepath.Join(r.Options.Dir, o.Path))
		if err == nil && !bytes.Equal(have, o.Data) && !strings.HasPrefix(o.Path, "/"+pkiDir+"/") {
			found = append(found, strings.TrimPrefix(o.Path, "/"))
		}
	}
	if len(found) == 0 {
		return nil
	}
	return fault.New(fault.Config, "choose a directory of its own for the cluster, with nothing in it but authorities in "+pkiDir,
		"%s: no cluster was rendered here, and there is %s already", r.Options.Dir, strings.Join(found, ", "))
}

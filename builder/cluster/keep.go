// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// keep reads what earlier renderings left, and makes what is missing.
//
// Authorities are written before SecretsFile, which holds their pins, and configs after it: a
// power cut leaves no config whose secrets are not there, and what SecretsFile speaks of and is
// not there was lost.
func (r *renderer) keep() error {
	c := r.Cluster
	var err error
	if r.before, err = ReadIndex(r.Options.Dir); err != nil && !errors.Is(err, ErrNotRendered) {
		return err
	}
	if r.secrets, err = readSecrets(r.Options.Dir, c.Name); err != nil {
		return err
	}
	var known []string
	r.was = &lastRendering{}
	if r.fresh = r.secrets == nil; r.fresh {
		if r.secrets, err = newSecrets(c.Name, r.Now, r.Rand); err != nil {
			return err
		}
	} else {
		if r.was = r.secrets.Rendered; r.was == nil {
			r.was = r.earlier()
		}
		known = r.was.controlPlanes()
	}
	// Earlier releases wrote SecretsFile first: it may be all that a cut left of a first rendering.
	r.first = r.fresh || r.secrets.Rendered == nil && len(r.was.Hosts) == 0
	if err := r.settle(); err != nil {
		return err
	}
	if err := r.secrets.found(c, known); err != nil {
		return err
	}
	if err := r.initiator(); err != nil {
		return err
	}
	// A directory of secrets does not belong into a repository. What users make of the file stays.
	ignore, err := os.ReadFile(filepath.Join(r.Options.Dir, ignoreFile))
	if r.fresh || err != nil {
		ignore = []byte(ignored)
	}
	r.add("/"+ignoreFile, 0o644, ignore, "keeps secrets out of repositories")
	if r.cas, err = r.ensureAuthorities(r.Options.Dir, r.maker, r.first); err != nil {
		return err
	}
	r.outputs = append(r.outputs, r.cas.outputs...)
	r.expiring()
	r.material = &material{created: r.secrets.Created, token: r.secrets.BootstrapToken, certificateKey: r.secrets.CertificateKey,
		callbackToken: r.callbackToken(), pins: r.cas.pins(), founders: r.secrets.Founders}
	if r.material.adminKey, err = r.adminKey(); err != nil {
		return err
	}
	r.secretsAt = len(r.outputs)
	r.add("/"+SecretsFile, 0o600, nil, "tokens, keys and founders") // finish knows the rest of it
	return r.pinned()
}

// ignoreFile keeps git from taking secrets: it names what is rendered, whatever else is there.
const (
	ignoreFile = ".gitignore"
	ignored    = "/.gitignore\n/.admin.conf.new\n/.secrets.yaml.new\n/admin.conf\n/cluster.json\n/hosts/\n/pki/\n/roles/\n/run/\n/secrets.yaml\n"
)

// foreign reports files that somebody else made where a first rendering would put its own, or
// would later take away what it did not make. Authorities are expected: users may bring theirs.
func (r *renderer) foreign() error {
	if !r.fresh {
		return nil
	}
	brought := map[string]bool{}
	for _, o := range r.cas.outputs {
		brought[o.Path] = true
	}
	if r.Cluster.PKI.Mode == node.PKIGenerate {
		brought["/"+pkiDir+"/"+adminName+".key"] = true // of a rendering that was cut short
	}
	var found []string
	for _, o := range r.outputs {
		have, err := os.ReadFile(filepath.Join(r.Options.Dir, o.Path))
		if err == nil && !bytes.Equal(have, o.Data) && !brought[o.Path] {
			found = append(found, strings.TrimPrefix(o.Path, "/"))
		}
	}
	root := os.DirFS(r.Options.Dir)
	for _, dir := range []string{"hosts", "roles", hostKeysDir} {
		err := fs.WalkDir(root, dir, func(file string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && file == dir {
				return nil
			}
			if err == nil && !d.IsDir() {
				found = append(found, file)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if r.Cluster.PKI.Mode == node.PKIExternal {
		admin, err := fs.Glob(root, pkiDir+"/"+adminName+".*")
		if err != nil {
			return err
		}
		found = append(found, admin...)
	}
	if len(found) == 0 {
		return nil
	}
	slices.Sort(found)
	return fault.New(fault.Config, "choose a directory of its own for the cluster, with nothing in it but authorities in "+pkiDir,
		"%s: no cluster was rendered here, and there is %s already", r.Options.Dir, strings.Join(slices.Compact(found), ", "))
}

// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

var fileChecks = []Check{
	{ID: "D01", Title: "the PKI directory holds the known files and nothing else", run: pkiFiles},
	{ID: "D02", Title: "file and directory modes", Worker: true, run: modes},
}

var (
	authorities = []string{"ca", "front-proxy-ca", "etcd/ca"}
	leaves      = []string{"apiserver", "apiserver-kubelet-client", "apiserver-etcd-client", "front-proxy-client",
		"etcd/server", "etcd/peer", "etcd/healthcheck-client"}
)

func pkiFiles(_ context.Context, e *Env) error {
	want := []string{"sa.key", "sa.pub"}
	for _, n := range slices.Concat(authorities, leaves) {
		want = append(want, n+".crt", n+".key")
	}
	var p problems
	if e.Config.ExternalCA {
		want = slices.DeleteFunc(want, func(f string) bool { return f == "ca.key" })
	}
	if e.Config.PKIMode == node.PKIExternal { // no authority's key has to be anywhere
		for _, n := range authorities {
			if _, err := os.Stat(e.path(kubeadm.PKIDir + "/" + n + ".key")); err != nil {
				want = slices.DeleteFunc(want, func(f string) bool { return f == n+".key" })
			}
		}
	}
	dir := e.path(kubeadm.PKIDir)
	var got []string
	p.add(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, rerr := filepath.Rel(dir, path)
			got = append(got, rel)
			return rerr
		}
		return err
	}))
	for _, f := range want {
		if !slices.Contains(got, f) {
			p.addf("%s/%s is missing", kubeadm.PKIDir, f)
		}
	}
	for _, f := range got {
		if !slices.Contains(want, f) {
			p.addf("%s/%s should not be there", kubeadm.PKIDir, f)
		}
	}
	return p.err()
}

func modes(_ context.Context, e *Env) error {
	var p problems
	mode := func(path string, allowed ...fs.FileMode) {
		st, err := os.Stat(e.path(path))
		if err != nil {
			p.add(err)
			return
		}
		if !slices.Contains(allowed, st.Mode().Perm()) {
			p.addf("%s has mode %04o, want %04o", path, st.Mode().Perm(), allowed)
		}
	}
	for _, f := range []string{"config.yaml", "instance-config.yaml", "kubeadm-flags.env"} {
		mode(kubeadm.KubeletDir+"/"+f, 0o644)
	}
	mode(kubeadm.KubeletDir, 0o700)
	mode(kubeadm.ManifestsDir, 0o700)
	globs := []string{kubeadm.Dir + "/*.conf", kubeadm.ManifestsDir + "/*.yaml"}
	if e.Config.Role == node.ControlPlane {
		mode(kubeadm.EtcdDataDir, 0o700)
		mode(kubeadm.PKIDir+"/sa.pub", 0o600, 0o644) // uploaded copies are 0644
		globs = append(globs, kubeadm.PKIDir+"/*.key", kubeadm.PKIDir+"/etcd/*.key")
		for _, n := range slices.Concat(authorities, leaves) {
			mode(kubeadm.PKIDir+"/"+n+".crt", 0o644)
		}
	}
	for _, g := range globs {
		found, err := filepath.Glob(e.path(g))
		p.add(err)
		for _, f := range found {
			rel, err := filepath.Rel(e.Root, f)
			p.add(err)
			mode("/"+rel, 0o600)
		}
	}
	return p.err()
}

// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

// removed lists what earlier renderings left of hosts that the cluster does not have any more:
// configs, and keys and certificates of an external authority. It goes by what is there, not by
// the index, so what a power cut kept from being removed is found the next time. A host whose
// certificates are pending keeps its last config.
func (r *renderer) removed() ([]Change, error) {
	if r.fresh {
		return nil, nil
	}
	subjects := map[string]string{}
	if r.before != nil {
		for _, h := range r.before.Hosts {
			subjects[h.Name] = called(&Host{Name: h.Name, Role: h.Role})
		}
	}
	left := func(name string) bool {
		return !slices.ContainsFunc(r.Cluster.Hosts, func(h Host) bool { return h.Name == name })
	}
	var out []Change
	gone := func(file, host string) {
		out = append(out, Change{File: file, Action: Removed, Subject: cmp.Or(subjects[host], "host "+host)})
	}
	root := os.DirFS(r.Options.Dir)
	configs, err := fs.Glob(root, "hosts/*.ign")
	if err != nil {
		return nil, err
	}
	for _, file := range configs {
		if name := strings.TrimSuffix(path.Base(file), ".ign"); left(name) {
			gone(file, name)
		}
	}
	err = fs.WalkDir(root, hostKeysDir, func(file string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && file == hostKeysDir {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(file, hostKeysDir+"/"), "/")
		if left(name) && slices.Contains([]string{".key", ".csr", ".crt"}, path.Ext(file)) {
			gone(file, name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, role := range []node.Role{node.ControlPlane, node.Worker} {
		file := roleFile(role)
		wanted := slices.ContainsFunc(r.outputs, func(o output) bool { return o.Path == "/"+file })
		if _, err := fs.Stat(root, file); err == nil && !wanted {
			out = append(out, Change{File: file, Action: Removed, Subject: "all " + strings.ReplaceAll(string(role), "-", " ") + "s"})
		}
	}
	return out, nil
}

// advise says what the user can do now.
func (r *renderer) advise() {
	next := func(format string, args ...any) { r.result.Next = append(r.result.Next, fmt.Sprintf(format, args...)) }
	if len(r.result.Pending) > 0 {
		next("sign the requests below %s, put the certificates beside them as .crt, and render again", filepath.Join(r.Options.Dir, pkiDir))
	}
	replaced := r.replaced()
	for _, c := range r.result.Changes {
		name, isHost := strings.CutPrefix(c.File, "hosts/")
		if !isHost || r.known == nil {
			continue
		}
		name, at := strings.TrimSuffix(name, ".ign"), filepath.Join(r.Options.Dir, c.File)
		switch {
		case c.Action == Added:
			next("boot %s with %s; it joins by itself", c.Subject, at)
		case c.Action == Changed && slices.Contains(replaced, name):
			next("switch the old machine of %s off, then boot the new one with %s; it takes the old one's place", c.Subject, at)
		case c.Action == Removed:
			next("remove %s from the cluster: 'kubectl drain %s --ignore-daemonsets', switch it off, 'kubectl delete node %s'", c.Subject, name, name)
			if strings.HasPrefix(c.Subject, called(&Host{Role: node.ControlPlane})) {
				next("remove the etcd member %s, which still counts for the quorum: 'etcdctl member remove' (docs/cluster-operations.md)", name)
			}
		}
	}
	if r.Cluster.PKI.Mode == node.PKIGenerate && r.cas.ca() == nil {
		next("once %s is Ready, 'imgbuild cluster kubeconfig %s' fetches the kubeconfig and the authority; render again, and later hosts pin it",
			r.Cluster.PKI.Initiator, r.Options.Dir)
	}
}

// replaced names the hosts that are to be other machines than before.
func (r *renderer) replaced() (names []string) {
	if r.before == nil {
		return nil
	}
	was := map[string]IndexHost{}
	for _, h := range r.before.Hosts {
		was[h.Name] = h
	}
	other := func(old, now string) bool { return old != "" && !strings.EqualFold(old, now) }
	for _, h := range r.index.Hosts {
		if old := was[h.Name]; other(old.MAC, h.MAC) || other(old.UUID, h.UUID) || other(old.Serial, h.Serial) {
			names = append(names, h.Name)
		}
	}
	return names
}

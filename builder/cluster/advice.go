// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

// removed lists configs of an earlier rendering that have no host any more.
func (r *renderer) removed() []Change {
	if r.before == nil {
		return nil
	}
	wanted := map[string]bool{}
	for _, o := range r.outputs {
		wanted[strings.TrimPrefix(o.Path, "/")] = true
	}
	var out []Change
	gone := func(file, subject string) {
		if _, err := os.Lstat(filepath.Join(r.Options.Dir, file)); err == nil && file != "" && !wanted[file] {
			out = append(out, Change{File: file, Action: Removed, Subject: subject})
		}
	}
	for _, h := range r.before.Hosts {
		// The index is a file that others could have edited.
		if domainForm.MatchString(h.Name) {
			gone("hosts/"+h.Name+".ign", called(&Host{Name: h.Name, Role: h.Role}))
		}
	}
	gone(roleFile(node.ControlPlane), "all control planes")
	gone(roleFile(node.Worker), "all workers")
	return out
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
		if !isHost || r.before == nil {
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

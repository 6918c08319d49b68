// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// hostsBefore returns the hosts that had a config when a rendering was last complete, in its order.
// The index says so; SecretsFile may already speak of a rendering that was cut short.
func (r *renderer) hostsBefore() (out []IndexHost) {
	if r.before == nil {
		for _, h := range r.was.Hosts {
			out = append(out, IndexHost{Name: h.Name, Role: h.Role, Address: h.Address})
		}
		return out
	}
	for _, h := range r.before.Hosts {
		// Without a config here it may have one that an external authority is to renew.
		if h.Ignition != "" || r.was.has(h.Name) {
			out = append(out, h)
		}
	}
	return out
}

// left are hosts of earlier renderings that the cluster does not have any more.
func (r *renderer) left() []IndexHost {
	return slices.DeleteFunc(r.hostsBefore(), func(h IndexHost) bool { return r.hasHost(h.Name) })
}

func (r *renderer) hasHost(name string) bool {
	return slices.ContainsFunc(r.Cluster.Hosts, func(h Host) bool { return h.Name == name })
}

// removed lists what earlier renderings made for hosts that the cluster does not have any more:
// configs, and keys and certificates of an external authority. It goes by their names, never by
// what is there: anybody may keep files beside ours. The index is written after all are gone, so
// what a power cut kept from being removed is found the next time. A host whose certificates are
// pending keeps its last config.
func (r *renderer) removed() (out []Change) {
	gone := func(file, subject string) {
		if st, err := os.Lstat(filepath.Join(r.Options.Dir, file)); err == nil && !st.IsDir() {
			out = append(out, Change{File: file, Action: Removed, Subject: subject})
		}
	}
	hosts := map[string]node.Role{}
	for _, h := range r.was.Hosts {
		hosts[h.Name] = h.Role
	}
	if r.before != nil {
		for _, h := range r.before.Hosts {
			hosts[h.Name] = h.Role
		}
	}
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		if r.hasHost(name) {
			continue
		}
		subject := called(&Host{Name: name, Role: hosts[name]})
		gone("hosts/"+name+".ign", subject)
		for _, base := range requested() {
			for _, kind := range []string{".key", ".csr", ".crt"} {
				gone(path.Join(hostKeysDir, name, base+kind), subject)
			}
		}
	}
	for _, role := range []node.Role{node.ControlPlane, node.Worker} {
		file := roleFile(role)
		wanted := slices.ContainsFunc(r.outputs, func(o output) bool { return o.Path == "/"+file })
		if !wanted && r.madeFor(filepath.Join(r.Options.Dir, file)) != nil {
			gone(file, "all "+strings.ReplaceAll(string(role), "-", " ")+"s")
		}
	}
	return out
}

// requested are the files of certificates that a host may ask an external authority for, without
// their endings.
func requested() (names []string) {
	for _, s := range pki.Specs(&kubeadm.Config{}) {
		if !s.IsCA() {
			names = append(names, s.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(pki.Users(""))) {
		names = append(names, strings.TrimSuffix(name, ".conf"))
	}
	return names
}

// advise says what the user can do now: with hosts in the order in which it has to be done. What
// leaves comes first, because it may have what takes its place: an address, or a vote.
func (r *renderer) advise() {
	next := func(format string, args ...any) { r.result.Next = append(r.result.Next, fmt.Sprintf(format, args...)) }
	if len(r.result.Pending) > 0 {
		next("sign the requests below %s, put the certificates beside them as .crt, and render again", filepath.Join(r.Options.Dir, pkiDir))
	}
	var steps []string
	controlPlanes := 0
	step := func(role node.Role, format string, args ...any) {
		if role == node.ControlPlane {
			controlPlanes++
		}
		steps = append(steps, fmt.Sprintf(format, args...))
	}
	before, left := r.hostsBefore(), r.left()
	for _, h := range left {
		name := called(&Host{Name: h.Name, Role: h.Role})
		if h.Role == node.ControlPlane {
			step(h.Role, "remove %s while the others are healthy, in this order: 'kubectl drain %s --ignore-daemonsets --delete-emptydir-data'; while it still runs, "+
				"remove the etcd member %s with 'etcdctl member remove' (docs/cluster-operations.md); 'kubectl delete node %s'; switch it off", name, h.Name, h.Name, h.Name)
			continue
		}
		step(h.Role, "remove %s: 'kubectl drain %s --ignore-daemonsets --delete-emptydir-data', switch it off, 'kubectl delete node %s'", name, h.Name, h.Name)
	}
	for i := range r.Cluster.Hosts {
		h, now := &r.Cluster.Hosts[i], r.index.Hosts[i]
		at := filepath.Join(r.Options.Dir, now.Ignition)
		was := slices.IndexFunc(before, func(o IndexHost) bool { return o.Name == h.Name })
		switch {
		case now.Ignition == "" || len(before) == 0: // it cannot be booted yet, or nothing was there to join
		case was < 0:
			after := ""
			if j := slices.IndexFunc(left, func(o IndexHost) bool { return sameMachine(o, now) || o.Address != "" && o.Address == now.Address }); j >= 0 {
				after = ", with an empty disk and when " + left[j].Name + " is gone, whose place it takes"
			}
			step(h.Role, "boot %s with %s%s; %s", called(h), at, after, r.joining(h))
		case otherMachine(before[was], now):
			step(h.Role, "switch the old machine of %s off, then boot the new one with %s; it takes the old one's place", called(h), at)
		}
	}
	if controlPlanes > 1 {
		next("change control planes one after the other, in this order, and wait each time until all that stay are Ready")
	}
	r.result.Next = append(r.result.Next, steps...)
	if r.Cluster.PKI.Mode == node.PKIGenerate && r.cas.ca() == nil {
		next("once %s is Ready, 'imgbuild cluster kubeconfig %s' fetches the kubeconfig and the authority; render again, and later hosts pin it",
			r.Cluster.PKI.Initiator, r.Options.Dir)
	}
}

// joining says how a new host joins. Without join.renew tokens end: join.tokenTTL after a first
// boot, which was not before the first rendering.
func (r *renderer) joining(h *Host) string {
	c := r.Cluster
	asks := c.PKI.Mode == node.PKIGenerate || c.PKI.Mode == node.PKIShared && h.Role == node.Worker
	made, err := time.Parse(time.RFC3339, r.secrets.Created)
	if !asks || *c.Join.Renew || err == nil && r.Now.Before(made.Add(c.Join.TokenTTL.D())) {
		return "it joins by itself"
	}
	return "its token may have ended (join.renew is false): first make that valid again as docs/cluster-operations.md says, Tokens"
}

// hardware returns what tells two machines apart, in pairs of then and now.
func hardware(a, b IndexHost) [][2]string {
	return [][2]string{{a.MAC, b.MAC}, {a.UUID, b.UUID}, {a.Serial, b.Serial}}
}

// otherMachine says whether a host is to be another machine than before.
func otherMachine(was, now IndexHost) bool {
	return slices.ContainsFunc(hardware(was, now), func(p [2]string) bool { return p[0] != "" && !strings.EqualFold(p[0], p[1]) })
}

// sameMachine says whether two hosts are one machine.
func sameMachine(was, now IndexHost) bool {
	return slices.ContainsFunc(hardware(was, now), func(p [2]string) bool { return p[0] != "" && strings.EqualFold(p[0], p[1]) })
}

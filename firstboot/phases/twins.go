// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/imgbuild/imgbuild/firstboot/cluster"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
)

// marks are what no two machines have in common, as their kubelets report it.
var marks = []struct {
	what, cure string
	of         func(corev1.NodeSystemInfo) string
}{
	{"machine id", "the disk of one is a copy of the other's, and addresses by DHCP clash; on all but one wipe the partition state, or remove /etc/machine-id, and start them again",
		func(i corev1.NodeSystemInfo) string { return i.MachineID }},
	{"product UUID", "one virtual machine is a copy of the other; give each a UUID of its own",
		func(i corev1.NodeSystemInfo) string { return i.SystemUUID }},
}

// twins names nodes that are one machine twice, or if self is not empty those that are this one. A
// node that is not Ready does not count: it may be what a machine was called before.
func twins(nodes []corev1.Node, self string) error {
	var errs []error
	for _, m := range marks {
		with := map[string][]string{}
		for _, n := range nodes {
			id := strings.ToLower(m.of(n.Status.NodeInfo))
			if sameMachine(id, id) && (n.Name == self || cluster.Ready(&n) == nil) {
				with[id] = append(with[id], n.Name)
			}
		}
		for _, id := range slices.Sorted(maps.Keys(with)) {
			if names := with[id]; len(names) > 1 && (self == "" || slices.Contains(names, self)) {
				slices.Sort(names)
				errs = append(errs, fmt.Errorf("nodes %s have the same %s, %s: %s", strings.Join(names, ", "), m.what, id, m.cure))
			}
		}
	}
	return errors.Join(errs...)
}

// lookForTwins does so in the whole cluster, for workers, too, which may not list nodes. It asks
// this machine's API server, once: if that does not answer, nothing is known, and the next time
// is soon.
func (s *State) lookForTwins(ctx context.Context) error {
	if s.absent(kubeadm.ManifestsDir + "/" + kubeadm.APIServer + ".yaml") {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answer)
	defer cancel()
	c, err := s.client()
	if err != nil {
		return err
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	return twins(nodes, "")
}

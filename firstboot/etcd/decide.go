// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

// Verdict is what a control plane without etcd data does next. The zero value is invalid.
type Verdict int

// The verdicts.
const (
	// Wait: it is not known yet whether a cluster exists.
	Wait Verdict = iota + 1
	// Found: start etcd with the full list of members.
	Found
	// Join: a cluster exists; become a member of it.
	Join
)

// Decide judges what the control planes said. Self is one of members, those that may start
// the cluster; it has no etcd data.
//
//   - Somebody has been in a cluster: it exists. If that cluster's members are exactly ours
//     and ours has never served, this is one of its first members arriving late, which starts
//     like the others did. Otherwise the machine joins as a new member, even if no quorum
//     is there to let it in at this moment: starting anew with the identity of a member that
//     has voted before could make the cluster forget what it acknowledged.
//   - Nobody has, and those that say so are a quorum together with this machine. Any quorum
//     of an earlier cluster would have one of these machines in it, so unless that one lost
//     its disk there was none.
//   - Anything else waits. The reason says for whom.
//
// Peers that would start the cluster with other members do not count.
func Decide(self node.Peer, members []node.Peer, answers map[string]Answer, errs map[string]error) (Verdict, string) {
	fresh, other, late := 1, []string(nil), ""
	for _, p := range members {
		a, ok := answers[p.Name]
		switch {
		case !ok:
		case a.Established() && a.lists(members) && !a.served(self):
			late = p.Name
		case a.Established():
			return Join, p.Name + " is in a cluster already"
		case a.lists(members):
			fresh++
		default:
			other = append(other, p.Name)
		}
	}
	if late != "" {
		return Found, late + " is in a cluster that knows this machine as a member that never ran"
	}
	quorum := len(members)/2 + 1
	if fresh >= quorum {
		return Found, fmt.Sprintf("%d of %d control planes are here and none was in a cluster before", fresh, len(members))
	}
	why := fmt.Sprintf("%d of %d control planes are here, %d are needed to start the cluster", fresh, len(members), quorum)
	for _, name := range slices.Sorted(maps.Keys(errs)) {
		why += "; " + errs[name].Error()
	}
	if other != nil {
		slices.Sort(other)
		why += "; started with another list of control planes: " + strings.Join(other, ", ")
	}
	return Wait, why
}

// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Annotation is where a control plane says, on its own node, whose adverts its keepalived
// listens to and whom it sends its own: addresses with commas between them.
const Annotation = "imgbuild.io/vip-peers"

// Announce renders the value of Annotation.
func Announce(peers []netip.Addr) string {
	sorted := slices.Clone(peers)
	slices.SortFunc(sorted, netip.Addr.Compare)
	var b strings.Builder
	for i, a := range sorted {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(a.String())
	}
	return b.String()
}

// Announced reads a value of Annotation. What is no address is left out.
func Announced(value string) []netip.Addr {
	var out []netip.Addr
	for f := range strings.SplitSeq(value, ",") {
		if a, err := netip.ParseAddr(strings.TrimSpace(f)); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// Away is how long a control plane is not Ready before nobody waits for it any more. One that
// still runs keepalived then has had ten times the time it takes to learn of a new machine.
const Away = 10 * time.Minute

// ControlPlane is what the cluster says about one of its control planes.
type ControlPlane struct {
	Name      string
	Addresses []netip.Addr
	// Ready is the node's condition, Since is when it last changed.
	Ready bool
	Since time.Time
	// Foreign says that it is no machine of ours: it runs no keepalived that we know of.
	Foreign bool
	// Peers are those it announces.
	Peers []netip.Addr
}

// Verdict is whether a machine may stand for election. The zero value is invalid.
type Verdict int

// The verdicts.
const (
	// Held: somebody may own the address whom this machine would not hear.
	Held Verdict = iota + 1
	// Admitted: everybody who may own the address knows this machine.
	Admitted
	// Unlisted: this machine is no control plane of the cluster, and nobody else is Ready.
	Unlisted
	// Expelled: this machine is no control plane of the cluster, and somebody else is.
	Expelled
)

// Admit judges whether the machine of that name and address may stand for election, and says
// what is missing. It has to know everybody in all before it does.
func Admit(name string, address netip.Addr, all []ControlPlane, now time.Time) (Verdict, []string) {
	listed, others := false, false
	var missing []string
	for _, cp := range all {
		if cp.Name == name {
			if len(cp.Addresses) > 0 && !slices.Contains(cp.Addresses, address) {
				missing = append(missing, fmt.Sprintf("node %s is at %s and not at this machine's address %s", name, Announce(cp.Addresses), address))
				continue
			}
			listed = true
			continue
		}
		others = others || cp.Ready
		switch {
		case slices.Contains(cp.Addresses, address): // an earlier name of this machine
		case cp.Foreign, slices.Contains(cp.Peers, address):
		case !cp.Ready && now.Sub(cp.Since) >= Away:
		case !cp.Ready:
			missing = append(missing, fmt.Sprintf("%s does not list this machine as a peer and is not Ready; it is waited for until %s", cp.Name, cp.Since.Add(Away).UTC().Format(time.RFC3339)))
		default:
			missing = append(missing, cp.Name+" does not list this machine as a peer yet")
		}
	}
	switch {
	case !listed && others:
		return Expelled, append([]string{"the cluster has no control plane " + name + " with the address " + address.String()}, missing...)
	case !listed:
		return Unlisted, append([]string{"the cluster does not list this machine as a control plane yet"}, missing...)
	case len(missing) > 0:
		return Held, missing
	}
	return Admitted, nil
}

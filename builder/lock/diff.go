// SPDX-License-Identifier: Apache-2.0

package lock

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Change is one pin that differs between two locks. Old or New is empty when the pin was
// added or removed.
type Change struct {
	// Kind is "package", "module", "release", "archive" or "set".
	Kind string `json:"kind"`
	Name string `json:"name"`
	Old  string `json:"old"`
	New  string `json:"new"`
}

// Diff is what changed from one lock to another, sorted by kind and name.
type Diff []Change

// Compare returns what changed from old to new; either may be nil, for no lock at all.
// A pin whose version is the same but whose bytes differ is a change too, shown with the
// beginning of both digests.
func Compare(old, new *Lock) Diff {
	if old == nil {
		old = &Lock{}
	}
	if new == nil {
		new = &Lock{}
	}
	var d Diff
	for _, kind := range []struct {
		name string
		of   func(*Lock) map[string]pin
	}{{"archive", archivePins}, {"package", packagePins}, {"module", modulePins}, {"release", releasePins}, {"set", setPins}} {
		d = append(d, comparePins(kind.name, kind.of(old), kind.of(new))...)
	}
	return d
}

// pin is what a reader sees of an entry and what decides whether it changed.
type pin struct{ version, digest string }

func comparePins(kind string, old, new map[string]pin) Diff {
	names := maps.Clone(old)
	maps.Copy(names, new)
	var d Diff
	for _, name := range slices.Sorted(maps.Keys(names)) {
		a, b := old[name], new[name]
		if a == b {
			continue
		}
		if a.version == b.version {
			a.version, b.version = a.version+" "+clip(a.digest), b.version+" "+clip(b.digest)
		}
		d = append(d, Change{Kind: kind, Name: name, Old: a.version, New: b.version})
	}
	return d
}

func clip(digest string) string { return digest[:min(len(digest), 19)] }

func archivePins(l *Lock) map[string]pin {
	out := map[string]pin{}
	for _, a := range l.Archives {
		out[a.Name+" "+a.Suite] = pin{a.Date, a.InRelease}
	}
	return out
}

func packagePins(l *Lock) map[string]pin {
	out := map[string]pin{}
	for _, p := range l.Packages {
		out[p.Name] = pin{p.Version, p.SHA256}
	}
	return out
}

func modulePins(l *Lock) map[string]pin {
	out := map[string]pin{}
	for _, m := range l.Modules {
		out[m.Component] = pin{cmp.Or(m.Version, "recipe"), m.Recipe + m.Sum}
	}
	return out
}

func releasePins(l *Lock) map[string]pin {
	out := map[string]pin{}
	for _, r := range l.Releases {
		out[r.Name+" "+r.Architecture] = pin{r.Version, r.SHA256 + r.URL}
	}
	return out
}

// setPins compares which packages a set has; their versions are compared as packages.
func setPins(l *Lock) map[string]pin {
	out := map[string]pin{}
	for name, members := range l.Sets {
		sum := sha256.Sum256([]byte(strings.Join(members, "\n")))
		out[name] = pin{fmt.Sprintf("%d packages", len(members)), hex.EncodeToString(sum[:])}
	}
	return out
}

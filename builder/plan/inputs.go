// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/source/deb"
	"github.com/imgbuild/imgbuild/builder/store"
)

// formats holds the version of each kind's result. It goes up when code changes what a
// step makes of equal inputs, so that old results are not found any more.
var formats = map[Kind]int{Tool: 1, ModuleIndex: 1, InitrdModules: 1, BaseImage: 1, Initrd: 2, Root: 1, Image: 1}

// key derives a store key from a kind, its format version, inputs and other values.
func key(kind Kind, inputs []Input, more ...string) store.Key {
	values := make([]string, 0, len(inputs)*2+len(more))
	for _, in := range inputs {
		values = append(values, in.Name, in.Digest)
	}
	return store.NewKey(string(kind), formats[kind], append(values, more...)...)
}

func packageInputs(packages []lock.Package) []Input {
	out := make([]Input, 0, len(packages))
	for _, p := range packages {
		out = append(out, Input{Name: p.Name, Version: p.Version, Digest: p.SHA256, Size: p.Size, Origin: p.Archive + "/" + p.Suite + " " + p.Path})
	}
	return out
}

// timestamp returns the date of the newest index that l was made from.
func timestamp(l *lock.Lock) (int64, error) {
	var newest int64
	for _, a := range l.Archives {
		date, err := deb.ParseDate(a.Date)
		if err != nil {
			return 0, fault.Wrap(fault.Config, fmt.Errorf("lock for %s: date %q of %s %s %w", l.Architecture, a.Date, a.Name, a.Suite, err), "run 'imgbuild lock' to write it anew")
		}
		newest = max(newest, date.Unix())
	}
	return newest, nil
}

// dateInput is the timestamp of the image as an input like any other: a lock made from a
// newer index gives other bytes even when every package stayed the same.
func dateInput(seconds int64) Input {
	text := time.Unix(seconds, 0).UTC().Format(time.RFC3339)
	sum := sha256.Sum256([]byte(text))
	return Input{Name: "timestamp", Version: text, Digest: hex.EncodeToString(sum[:]), Origin: "lock"}
}

// union returns the packages of all sets once, by name.
func union(sets ...[]lock.Package) []lock.Package {
	byDigest := map[string]lock.Package{}
	for _, set := range sets {
		for _, p := range set {
			byDigest[p.SHA256] = p
		}
	}
	return slices.SortedFunc(maps.Values(byDigest), func(a, b lock.Package) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Version, b.Version))
	})
}

func pick(packages []lock.Package, want func(lock.Package) bool) []lock.Package {
	var out []lock.Package
	for _, p := range packages {
		if want(p) {
			out = append(out, p)
		}
	}
	return out
}

// IsKernel tells packages that hold a kernel and its modules from the metapackages and
// tools that share their prefix: linux-image-6.12.107+deb13-amd64.
func IsKernel(name string) bool {
	rest, ok := strings.CutPrefix(name, "linux-image-")
	return ok && rest != "" && rest[0] >= '0' && rest[0] <= '9'
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"flag"
	"strings"
	"testing"
)

var tidy = flag.String("tidy", "", "comma-separated components to run go mod tidy for; the test then fails, as something may have changed")

// Usage: go test ./builder/source/gomod -run TestTidy -tidy cni,ignition
func TestTidy(t *testing.T) {
	if *tidy == "" {
		t.Skip("nothing to tidy")
	}
	tc := toolchain(t)
	for name := range strings.SplitSeq(*tidy, ",") {
		c, err := Load(checkout, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := tc.Tidy(t.Context(), c, t.TempDir()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Fatal("go.mod and go.sum were written: review them and run again without -tidy")
}

// checkout is the root of the repository, seen from this package.
const checkout = "../../.."

func toolchain(t *testing.T) *Toolchain {
	t.Helper()
	tc, err := FindToolchain(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return tc
}

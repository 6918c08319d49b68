// SPDX-License-Identifier: Apache-2.0

package strict

import (
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	names := []string{"packages", "mirror", "suite", "omit"}
	for word, want := range map[string]string{"package": "packages", "pakcages": "packages", "Mirror": "mirror", "siute": "suite", "omits": "omit", "kernel": "", "x": "", "": "",
		strings.Repeat("packages", 1<<20): ""} {
		if got := Nearest(word, names); got != want {
			t.Errorf("Nearest(%.40q) = %q, want %q", word, got, want)
		}
	}
}

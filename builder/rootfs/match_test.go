// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"slices"
	"testing"
)

func TestMatcher(t *testing.T) {
	patterns := []string{
		"/usr/share/doc",                // 0
		"/usr/lib/*/perl",               // 1
		"/etc/{a,b}.conf",               // 2
		"/usr/lib/**/*.pyc",             // 3
		"/usr/{bin,sbin}/{x*,y}",        // 4
		"/usr/lib/{one,two/{three,4*}}", // 5
	}
	m, err := NewMatcher(patterns)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string][]int{
		"/usr/share/doc":          {0},
		"/usr/share/doc/pkg/x.gz": {0},
		"/usr/share/document":     nil,
		"/usr/lib/x/perl":         {1},
		"/usr/lib/x/perl/a":       {1},
		"/usr/lib/x/y/perl":       nil,
		"/etc/b.conf":             {2},
		"/etc/c.conf":             nil,
		"/usr/lib/a/b/c.pyc":      {3},
		"/usr/sbin/xz":            {4},
		"/usr/bin/y":              {4},
		"/usr/bin/yy":             nil,
		"/usr/lib/one/below":      {5},
		"/usr/lib/two/three":      {5},
		"/usr/lib/two/45":         {5},
		"/usr/lib/two":            nil,
		"/":                       nil,
	} {
		if got := m.Match(p); !slices.Equal(got, want) {
			t.Errorf("Match(%q) = %v, want %v", p, got, want)
		}
	}
}

func TestMatcherRefuses(t *testing.T) {
	for _, p := range []string{"relative/path", "/open{a,b", "/open[a"} {
		if _, err := NewMatcher([]string{p}); err == nil {
			t.Errorf("pattern %q: no error", p)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/fault"
)

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		output  string
		class   fault.Class
		modules []string
	}{
		{"verifying example.org/a@v1.0.0: checksum mismatch\n\tdownloaded: h1:x\n\tgo.sum: h1:y\n\nSECURITY ERROR", fault.Digest, []string{"example.org/a@v1.0.0"}},
		{`example.org/a/v2@v2.1.0: Get "https://proxy/x.mod": dial tcp 192.0.2.1:443: i/o timeout`, fault.Network, []string{"example.org/a/v2@v2.1.0"}},
		{"main.go:3:8: example.org/a@v1.0.0: module lookup disabled by GOPROXY=off", fault.Network, []string{"example.org/a@v1.0.0"}},
		{"example.org/a@v1.0.0: reading https://proxy/x.info: 404 Not Found", fault.MissingPin, []string{"example.org/a@v1.0.0"}},
		{"go: example.org/a@v9.9.9: invalid version: unknown revision v9.9.9", fault.MissingPin, []string{"example.org/a@v9.9.9"}},
		{"example.org/a@v1.0.0: reading https://proxy/x.zip: 503 Service Unavailable", fault.Network, []string{"example.org/a@v1.0.0"}},
		{"go: downloading example.org/a v1.0.0\nmain.go:3:8: module lookup disabled by GOPROXY=off", fault.Network, []string{"example.org/a@v1.0.0"}},
		{"missing go.sum entry for module providing package example.org/a", fault.Config, nil},
		{"compile: writing output: write $WORK/b001/_pkg_.a: no space left on device", fault.NoSpace, nil},
		{"go: go.mod requires go >= 1.99 (running go 1.26.8; GOTOOLCHAIN=local)", fault.Build, nil},
		{"./main.go:7:2: undefined: x", fault.Build, nil},
	} {
		f := &Failed{Argv: []string{"go", "build"}, Dir: "/d", Status: 1, Output: c.output}
		err := classify(f)
		if got := fault.ClassOf(err); got != c.class {
			t.Errorf("%q: class %d, want %d", c.output, got, c.class)
		}
		if got := f.Modules(); !slices.Equal(got, c.modules) {
			t.Errorf("%q: modules %q, want %q", c.output, got, c.modules)
		}
		var e *fault.Error
		if !errors.As(err, &e) || e.Hint == "" {
			t.Errorf("%q: no hint", c.output)
		}
		for _, part := range []string{`"go" "build"`, "status 1", strings.Split(c.output, "\n")[0]} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%v does not mention %s", err, part)
			}
		}
	}
}

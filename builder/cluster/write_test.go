// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// What the file system refuses has a class, and says what to do.
func TestWhatTheFileSystemRefuses(t *testing.T) {
	for _, c := range []struct {
		err  error
		want fault.Class
	}{
		{&fs.PathError{Op: "write", Path: "x", Err: unix.ENOSPC}, fault.NoSpace}, {unix.EDQUOT, fault.NoSpace}, {fmt.Errorf("writing x: %w", unix.EFBIG), fault.NoSpace},
		{unix.EROFS, fault.Usage}, {unix.EACCES, fault.Usage}, {unix.EPERM, fault.Usage}, {unix.ENOTDIR, fault.Usage}, {unix.EISDIR, fault.Config},
		{fault.New(fault.Corrupt, "x", "x"), fault.Corrupt}, {errors.New("x"), fault.Unclassified}, {nil, fault.Unclassified},
	} {
		err := told("dir", c.err)
		if fault.ClassOf(err) != c.want || c.want != fault.Unclassified && !strings.Contains(err.Error(), "\n  next: ") {
			t.Errorf("%v: %v", c.err, err)
		}
	}
	for name, c := range map[string]struct {
		spoil func(dir string) string
		want  fault.Class
	}{
		"a file for the directory": {func(dir string) string { put(t, dir, "demo", nil); return filepath.Join(dir, "demo") }, fault.Usage},
		"a file for one in it":     {func(dir string) string { put(t, dir, "hosts", nil); return dir }, fault.Config},
		"a link":                   {func(dir string) string { _ = os.Symlink("x", filepath.Join(dir, IndexFile)); return dir }, fault.Config},
		"a directory for a file":   {func(dir string) string { put(t, dir, KubeconfigFile+"/x", nil); return dir }, fault.Config},
		"one for the secrets":      {func(dir string) string { put(t, dir, SecretsFile+"/x", nil); return dir }, fault.Config},
		"one for the index":        {func(dir string) string { put(t, dir, IndexFile+"/x", nil); return dir }, fault.Config},
		"one for an authority":     {func(dir string) string { put(t, dir, "pki/ca.key/x", nil); return dir }, fault.Config},
	} {
		for _, dry := range []bool{true, false} {
			_, err := Render(t.Context(), parse(t, base), Options{Dir: c.spoil(t.TempDir()), Now: now, DryRun: dry})
			if fault.ClassOf(err) != c.want || !strings.Contains(err.Error(), "\n  next: ") {
				t.Errorf("%s: %d: %v", name, fault.ClassOf(err), err)
			}
		}
	}
}

// Directories that rendering makes are their owner's alone; those that are there stay.
func TestDirectoriesArePrivate(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "pki"), 0o755); err != nil {
		t.Fatal(err)
	}
	authority := newOffline(t, dir, now)
	s := func() *Source { return parse(t, with("pki: {mode: external}")) }
	authority.answer(t, dir, rendered(t, s(), dir).Pending)
	rendered(t, s(), dir)
	for name, want := range map[string]os.FileMode{"pki": 0o755, "hosts": 0o700, "pki/hosts": 0o700, "pki/hosts/cp-1": 0o700, "pki/hosts/cp-1/etcd": 0o700} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	dir = filepath.Join(t.TempDir(), "demo")
	rendered(t, parse(t, base), dir)
	for _, name := range []string{".", "hosts", "pki", "pki/etcd", "roles"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
}

// What git ignores is what was rendered: cluster.yaml may be in the same directory.
func TestNothingElseIsIgnored(t *testing.T) {
	dir := t.TempDir()
	r := rendered(t, parse(t, base), dir)
	lines := strings.Fields(read(t, dir, ignoreFile))
	for _, c := range r.Changes {
		top, _, below := strings.Cut(c.File, "/")
		if below {
			top += "/"
		}
		found := false
		for _, l := range lines {
			found = found || l == "/"+top
		}
		if !found {
			t.Errorf("%s is not ignored", c.File)
		}
	}
	for _, l := range lines {
		if !strings.HasPrefix(l, "/") || strings.ContainsAny(l, "*?[") {
			t.Errorf("%s may be somebody else's", l)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/imgbuild/imgbuild/builder/seal/referee"
)

// nobody is the user that owns nothing.
const nobody = 65534

// An account that owns nothing but an empty home directory builds from a checkout it may
// only read: caches of imgbuild and of Go go where the account may write.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles Go's standard library into the empty home")
	}
	s := newSite(t)
	if os.Getuid() != 0 {
		t.Skip("this test already runs as an ordinary user, and so do the others")
	}
	place, err := os.MkdirTemp("", "imgbuild-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(place) })
	home := filepath.Join(place, "home")
	program := filepath.Join(place, "imgbuild")
	for _, err := range []error{os.Mkdir(home, 0o700), os.Chown(home, nobody, nobody), os.Chmod(place, 0o755),
		os.Chmod(filepath.Dir(s.Dir), 0o755), copyTo(program, os.Args[0])} {
		if err != nil {
			t.Fatal(err)
		}
	}
	image := filepath.Join(home, "images", "node.raw")
	c := s.command(t)
	c.Path, c.Args = program, []string{"imgbuild", "--source", s.Dir, "--mirror", s.Mirror.URL, "--profile", "node", "--output", image}
	c.Env = slices.DeleteFunc(c.Env, func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return strings.HasPrefix(name, "XDG_") || strings.HasPrefix(name, "GO") || name == "HOME" || name == referee.Variable
	})
	c.Env = append(c.Env, "HOME="+home)
	c.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	c.finish(t).want(t, 0)
	if info := stat(t, image); info.Mode().Perm() != 0o644 || info.Sys().(*syscall.Stat_t).Uid != nobody {
		t.Errorf("the image is %s of user %d", info.Mode(), info.Sys().(*syscall.Stat_t).Uid)
	}
	stat(t, filepath.Join(home, ".cache/imgbuild/blobs"))
	s.build(t)
	if digest(t, s.image) != digest(t, image) {
		t.Error("the image of another user differs")
	}
}

// copyTo lets another process write the copy: a program that this one had open for writing
// while a parallel test forked could not be executed (ETXTBSY).
func copyTo(to, from string) error {
	if out, err := exec.Command("cp", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copying %s: %w: %s", from, err, out)
	}
	return os.Chmod(to, 0o755)
}

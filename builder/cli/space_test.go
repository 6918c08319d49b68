// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/imgbuild/imgbuild/builder/fault"
)

func itoa(n int) string { return strconv.Itoa(n) }

// A disk that is really full: a small tmpfs in a user namespace of the child's own, which
// an ordinary user may mount on most kernels.
func TestNoSpace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		on   func(s *site) string
		size string
		want []string
	}{
		"cache":  {func(s *site) string { return s.cache }, "size=2m", []string{"--cache-dir", "imgbuild cache prune"}},
		"inodes": {func(s *site) string { return s.cache }, "nr_inodes=40", []string{"no space left on device"}},
		"output": {func(s *site) string { return filepath.Dir(s.image) }, "size=20m", []string{"the image needs about", "MiB are free", "another output directory"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			dir := c.on(s)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			o := s.inNamespace(t, dir+":"+c.size, "build", "--profile", "node")
			o.want(t, fault.NoSpace, append(c.want, "\n  next: ")...)
			if got := names(t, filepath.Dir(s.image)); len(got) != 0 {
				t.Errorf("out/ holds %q", got)
			}
		})
	}
}

// inNamespace runs a command line with a tmpfs mounted as mount says.
func (s *site) inNamespace(t *testing.T, mount string, args ...string) outcome {
	t.Helper()
	c := s.command(t, args...)
	c.Env = append(c.Env, onTmpfs+"="+mount)
	c.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	err := c.Start()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
		t.Skipf("this machine allows no user namespaces, so there is no small disk to fill: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	o := c.finish(t)
	if o.status == cannotMount {
		t.Skipf("no small disk to fill: %s", o.stderr)
	}
	return o
}

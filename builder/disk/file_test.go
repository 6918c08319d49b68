// SPDX-License-Identifier: Apache-2.0

package disk_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/builder/disk"
	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/progress"
	"github.com/imgbuild/imgbuild/builder/seal"
)

func allocated(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

func TestLeftoversAreRemovedUnlessInUse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "image.raw")
	stale := filepath.Join(dir, ".image.raw.incomplete-1")
	used := filepath.Join(dir, ".image.raw.incomplete-2")
	other := filepath.Join(dir, ".other.raw.incomplete-3")
	for _, p := range []string{stale, used, other} {
		if err := os.WriteFile(p, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(used)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.Write(t.Context(), path, spec(t, 512), progress.Discard); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]bool{stale: false, used: true, other: true, path: true} {
		if _, err := os.Stat(p); (err == nil) != want {
			t.Errorf("%s: present %v, want %v", filepath.Base(p), err == nil, want)
		}
	}
}

// A process that is killed while it writes leaves a file that the next run removes, and
// never one under the final name.
func TestKilledWhileWriting(t *testing.T) {
	if path := os.Getenv("DISK_TEST_KILL"); path != "" {
		s := spec(t, 512)
		s.MakeESP = func(context.Context, seal.Root) ([]disk.ESPFile, error) { // the root is written by now
			return nil, syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		_, _ = disk.Write(t.Context(), path, s, progress.Discard)
		return
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "image.raw")
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWhileWriting$")
	cmd.Env = append(os.Environ(), "DISK_TEST_KILL="+path)
	if err := cmd.Run(); err == nil {
		t.Fatal("the process was not killed")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() == "image.raw" {
		t.Fatalf("left behind %v, want one file under another name: %v", left, err)
	}
	if _, err := disk.Write(t.Context(), path, spec(t, 512), progress.Discard); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("found %v: %v", entries, err)
	}
}

func TestOutputDirectoryMissing(t *testing.T) {
	_, err := disk.Write(t.Context(), filepath.Join(t.TempDir(), "no", "image.raw"), spec(t, 512), progress.Discard)
	if !os.IsNotExist(unwrapAll(err)) {
		t.Errorf("error %v", err)
	}
}

func unwrapAll(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err
		}
		if _, path := err.(*os.PathError); path {
			return err
		}
		err = u.Unwrap()
	}
}

func TestLayoutProblems(t *testing.T) {
	for _, c := range []struct {
		layout disk.Layout
		label  string
		want   []string
	}{
		{disk.Layout{ESP: 40 * mib, Root: mib, SectorSize: 520}, "x", []string{"sector size 520", "512 and 4096"}},
		{disk.Layout{ESP: 40*mib + 1, Root: 0, SectorSize: 512}, "x", []string{"esp is 41943041 bytes", "root is 0 bytes"}},
		{disk.Layout{ESP: 255 * mib, Root: mib, SectorSize: 4096}, "x", []string{"4096-byte sectors", "at least 257 MiB"}},
		{disk.Layout{ESP: 20 * mib, Root: mib, SectorSize: 512}, "x", []string{"at least 33 MiB"}},
		{disk.Layout{ESP: 40 * mib, Root: mib, SectorSize: 512}, strings.Repeat("x", 37), []string{"1 to 36 characters"}},
		{disk.Layout{ESP: 40 * mib, Root: mib, SectorSize: 512}, "_empty", []string{"not be _empty"}},
		{disk.Layout{ESP: mib, Root: -mib, SectorSize: 512}, "", []string{"esp is", "root is", "label"}},
	} {
		s := spec(t, 512)
		s.Layout, s.Label = c.layout, c.label
		_, err := disk.Write(t.Context(), filepath.Join(t.TempDir(), "image.raw"), s, progress.Discard)
		if fault.ClassOf(err) != fault.Config {
			t.Errorf("%+v: error %v", c.layout, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: no %q in: %v", c.layout, want, err)
			}
		}
	}
}

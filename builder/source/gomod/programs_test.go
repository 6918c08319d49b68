// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Components are modules of their own, which go test ./... in the root does not see.
func TestPackagesOfComponents(t *testing.T) {
	tc := toolchain(t)
	files, err := filepath.Glob(filepath.Join(checkout, Directory, "*", "*", "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	packages := map[string]bool{}
	for _, f := range files {
		packages[filepath.Dir(f)] = true
	}
	if len(packages) == 0 {
		t.Fatal("no component has tests")
	}
	for dir := range packages {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), tc.Path, "test", ".")
			cmd.Dir, cmd.Env = dir, tc.target("amd64")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// pause reaps what is left to it, before and after it starts, and ends on a signal.
func TestPause(t *testing.T) {
	c, err := Load(checkout, "pause")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := toolchain(t).Build(t.Context(), c, Options{Arch: "amd64", Dir: dir}); err != nil {
		t.Fatal(err)
	}
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		// exec keeps the process and with it the shell's children: one ends at once, one
		// while pause runs.
		cmd := exec.CommandContext(t.Context(), "sh", "-c", `true & sleep 0.3 & exec "$0"`, filepath.Join(dir, "pause"))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid := cmd.Process.Pid
		wait(func() bool { return strings.HasSuffix(readLink(fmt.Sprintf("/proc/%d/exe", pid)), "/pause") })
		wait(func() bool {
			children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
			if err != nil {
				t.Fatal(err)
			}
			return len(children) == 0
		})
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("after %v: %v", sig, err)
		}
	}
}

// wait polls; the deadline of the test binary ends what never comes true.
func wait(until func() bool) {
	for !until() {
		time.Sleep(2 * time.Millisecond)
	}
}

func readLink(name string) string {
	target, _ := os.Readlink(name)
	return target
}

// SPDX-License-Identifier: Apache-2.0

// Package referee lets tests ask programs written by others whether what we wrote is
// right: fsck.erofs, veritysetup, sgdisk, sfdisk, fsck.fat, mtools. The programs come
// from the locked packages of the tool set "tool/verify", unpacked into the directory
// that IMGBUILD_TEST_TOOLS names (make test sets it), or else from PATH.
package referee

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/imgbuild/imgbuild/builder/tool"
)

// Variable names the directory with the unpacked packages.
const Variable = "IMGBUILD_TEST_TOOLS"

// Run runs a program and returns everything it printed. The test is skipped when there
// is no such program.
func Run(t testing.TB, program string, args ...string) (output string, err error) {
	t.Helper()
	cmd := command(t, program, args)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

// Must is Run for a program that has to succeed.
func Must(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := Run(t, program, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
	return out
}

func command(t testing.TB, program string, args []string) *exec.Cmd {
	t.Helper()
	if dir := os.Getenv(Variable); dir != "" {
		cmd, err := tool.New(dir).Command(t.Context(), program, args...)
		if err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not in PATH and %s is not set; make test provides it", program, Variable)
	}
	return exec.CommandContext(t.Context(), path, args...)
}

// File returns a file that the packages ship, such as a boot stub, by its installed path.
// The test is skipped when they do not ship it.
func File(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(os.Getenv(Variable), path))
	if err != nil {
		t.Skipf("%v; the package that ships it belongs into the tool set tool/verify", err)
	}
	return b
}

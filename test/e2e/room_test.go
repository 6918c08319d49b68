// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"testing"

	"github.com/imgbuild/imgbuild/builder/vm"
)

// needRoom fails a test whose machines the host cannot hold, before anything is started.
func (e env) needRoom(t *testing.T, machines, memoryMiB int) {
	t.Helper()
	s := vm.Spec{MemoryMiB: memoryMiB, Accel: vm.Accel(os.Getenv("IMGBUILD_E2E_ACCEL"))}
	if err := vm.Room(os.TempDir(), s, machines, machines); err != nil {
		t.Fatalf("make room (TMPDIR names another disk), or choose other tests with -run: %v", err)
	}
}

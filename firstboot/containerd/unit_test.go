// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// The unit has no default dependencies, so it has to name the mounts that it waits for.
func TestUnitWaitsForItsDisk(t *testing.T) {
	text, err := os.ReadFile("../../assets/units/containerd.service")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	if slices.Contains(lines, "DefaultDependencies=no") && !slices.Contains(lines, "RequiresMountsFor=/var/lib/containerd") {
		t.Error("containerd may start before a disk is mounted at /var/lib/containerd, and write below it")
	}
}

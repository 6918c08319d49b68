// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Nothing loads a module of the initrd on demand, and units start side by side: on a slow machine
// one that needs a module comes too early unless it says that it comes after.
func TestInitrdUnitsComeAfterTheirModules(t *testing.T) {
	const dir = "../../assets/initrd"
	text := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for unit, needs := range map[string]map[string][]string{
		"systemd-veritysetup-root.conf": {"root": {"dm_verity"}},
		"systemd-repart.conf":           {"state": {"loop", "ext4"}},
		"sysroot-var.mount":             {"state": {"ext4"}},
		"sysroot-etc.mount":             {"host": {"overlay"}},
		"ignition-prefetch.service":     {"host": {"qemu_fw_cfg"}},
		"ignition-fetch-offline.service": {
			"host": {"qemu_fw_cfg"}},
	} {
		var after []string
		for line := range strings.Lines(text("units/" + unit)) {
			if list, ok := strings.CutPrefix(strings.TrimSpace(line), "After="); ok {
				after = append(after, strings.Fields(list)...)
			}
		}
		for list, modules := range needs {
			if !slices.Contains(after, "imgbuild-modules@"+list+".service") {
				t.Errorf("%s comes after %v, and needs %v of the list %s", unit, after, modules, list)
			}
			for _, m := range modules {
				if !slices.Contains(strings.Fields(text("modules/"+list+".conf")), m) {
					t.Errorf("the list %s has no %s, which %s needs", list, m, unit)
				}
			}
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/fault"
)

func TestRoom(t *testing.T) {
	if m, d := availableMemory(), freeDisk(filepath.Join(t.TempDir(), "not", "yet")); m <= 0 || m == enough || d <= 0 || d == enough {
		t.Errorf("the host has %d MiB of memory and %d of disk", m, d)
	}
	emulated, native := Spec{MemoryMiB: 3072, Accel: TCG}, Spec{MemoryMiB: 3072, Accel: KVM}
	for _, c := range []struct {
		name         string
		s            Spec
		empty        int
		memory, disk int
		class        fault.Class
		missing      []string
	}{
		{"just enough", emulated, 4, 4 * (3072 + emulationMemory), 4 * machineDisk, 0, nil},
		{"memory", emulated, 4, 4*(3072+emulationMemory) - 1, 4 * machineDisk, fault.Machine, []string{"take 15360 MiB of memory", "15359 are available", "smaller ones"}},
		{"no emulation", native, 4, 4 * (3072 + qemuMemory), 4 * machineDisk, 0, nil},
		{"disk", emulated, 4, 1 << 20, 4*machineDisk - 1, fault.NoSpace, []string{"about 8192 MiB in /d", "8191 are free"}},
		{"goes on with its disks", emulated, 0, 1 << 20, 0, 0, nil},
		{"both", emulated, 1, 0, 0, fault.NoSpace, []string{"of memory", "about 2048 MiB"}},
	} {
		err := room("/d", c.s, 4, c.empty, c.memory, c.disk)
		if fault.ClassOf(err) != c.class || (err == nil) != (c.missing == nil) {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, text := range c.missing {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v does not say %q", c.name, err, text)
			}
		}
	}
}

// Machines that have their disks need no room for them.
func TestFleetRoom(t *testing.T) {
	o := FleetOptions{Dir: t.TempDir(), Machine: Spec{MemoryMiB: 64, Accel: TCG}}
	for range 1000000 / machineDisk * 1000 { // more than any disk has
		o.Hosts = append(o.Hosts, FleetHost{Name: "cp-1"})
	}
	if err := o.Check(); fault.ClassOf(err) != fault.NoSpace {
		t.Errorf("without disks: %v", err)
	}
	wrong := o
	wrong.Machine.Accel = "hax"
	if err := wrong.Check(); fault.ClassOf(err) != fault.Usage {
		t.Errorf("with an accelerator that there is not: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(o.Dir, "cp-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.Dir, "cp-1", overlayFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := o.Check(); fault.ClassOf(err) != fault.Machine || strings.Contains(err.Error(), "empty disks") {
		t.Errorf("with disks: %v", err)
	}
}

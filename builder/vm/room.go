// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// What a machine takes of the host besides its own memory: QEMU, and when it emulates the code
// that it translates; and on disk what a node writes until it is Ready and for a while after. All
// in MiB, as measured.
const (
	qemuMemory      = 128
	emulationMemory = 768
	machineDisk     = 2048
)

// Room is an error when the host cannot hold so many machines of a size, of which some begin with
// an empty disk in dir or below. A host that runs out later kills or stalls machines, and they do
// not know why. Swap does not count: machines in it take minutes for what takes seconds.
func Room(dir string, s Spec, machines, empty int) error {
	return room(dir, s.withDefaults(), machines, empty, availableMemory(), freeDisk(dir))
}

// room says what is missing. Everything is in MiB.
func room(dir string, s Spec, machines, empty, memory, disk int) error {
	each := s.MemoryMiB + emulationMemory
	if s.Accel == KVM || s.Accel == Auto && kvmUnusable() == "" {
		each = s.MemoryMiB + qemuMemory
	}
	var errs []error
	if need := empty * machineDisk; disk < need {
		errs = append(errs, fault.New(fault.NoSpace, "make room there, or start fewer machines",
			"%d machines with empty disks write about %d MiB in %s, and %d are free", empty, need, dir, disk))
	}
	if need := machines * each; memory < need {
		errs = append(errs, fault.New(fault.Machine, "start fewer machines, or smaller ones, or end what else takes memory here",
			"%d machines of %d MiB take %d MiB of memory with what QEMU needs for itself, and %d are available", machines, s.MemoryMiB, need, memory))
	}
	return errors.Join(errs...)
}

// Check reports what StartFleet would stumble over whatever the machines boot: a size that no
// machine has, machines that run already, and a host without the room for them.
func (o FleetOptions) Check() error {
	s, empty := o.machine(), 0
	if err := s.withDefaults().checkSize(); err != nil {
		return fault.Wrap(fault.Usage, err, "correct the machines' description")
	}
	if err := idle(o.Dir); err != nil {
		return err
	}
	for _, h := range o.Hosts {
		if _, err := os.Stat(filepath.Join(o.Dir, h.Name, overlayFile)); err != nil {
			empty++
		}
	}
	return Room(o.Dir, s, len(o.Hosts), empty)
}

// enough is what a host has that does not say.
const enough = 1 << 40

// availableMemory is what the host can give without swapping.
func availableMemory() int {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return enough
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kib int
		if n, _ := fmt.Sscanf(lines.Text(), "MemAvailable: %d kB", &kib); n == 1 {
			return kib >> 10
		}
	}
	return enough
}

// freeDisk is what is free where dir is, or will be.
func freeDisk(dir string) int {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(dir, &st)
		if err == nil {
			return int(st.Bavail * uint64(st.Bsize) >> 20)
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return enough
		}
		dir = filepath.Dir(dir)
	}
}

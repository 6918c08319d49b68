// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What a machine takes of the host besides its own memory: QEMU and the code it translates; and
// on disk what it writes until its test is over. Both in MiB.
const (
	machineMemory = 768
	machineDisk   = 2048
)

// needRoom fails a test whose machines the host cannot hold, before anything is started: a host
// that runs out later kills or stalls machines, and they do not know why.
func (e env) needRoom(t *testing.T, machines, memoryMiB int) {
	t.Helper()
	if err := room(machines, memoryMiB, availableMemory(t), freeDisk(t, os.TempDir())); err != nil {
		t.Fatal(err)
	}
}

// room says what is missing. Everything is in MiB.
func room(machines, memory, haveMemory, haveDisk int) error {
	var missing []string
	if need := machines * (memory + machineMemory); haveMemory < need {
		missing = append(missing, fmt.Sprintf("%d MiB of memory, and %d are available", need, haveMemory))
	}
	if need := machines * machineDisk; haveDisk < need {
		missing = append(missing, fmt.Sprintf("%d MiB of disk in %s, and %d are free", need, os.TempDir(), haveDisk))
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("this test's %d machines of %d MiB need %s; make room (TMPDIR names another disk), or choose other tests with -run", machines, memory, strings.Join(missing, ", and "))
}

// availableMemory is what the host can give without swapping; a kernel that does not say counts
// as one that has enough.
func availableMemory(t *testing.T) int {
	t.Helper()
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kib int
		if n, _ := fmt.Sscanf(lines.Text(), "MemAvailable: %d kB", &kib); n == 1 {
			return kib >> 10
		}
	}
	return 1 << 30
}

func freeDisk(t *testing.T, dir string) int {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int(st.Bavail * uint64(st.Bsize) >> 20)
}

func TestRoom(t *testing.T) {
	if availableMemory(t) <= 0 || freeDisk(t, t.TempDir()) <= 0 {
		t.Error("the host's memory or disk is not seen")
	}
	for _, c := range []struct {
		memory, disk int
		missing      []string
	}{
		{4 * (3072 + machineMemory), 4 * machineDisk, nil},
		{4*(3072+machineMemory) - 1, 4 * machineDisk, []string{"15360 MiB of memory"}},
		{0, 0, []string{"MiB of memory", "MiB of disk"}},
	} {
		err := room(4, 3072, c.memory, c.disk)
		if (err == nil) != (c.missing == nil) {
			t.Errorf("%+v: %v", c, err)
		}
		for _, text := range c.missing {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%v does not say %q", err, text)
			}
		}
	}
}

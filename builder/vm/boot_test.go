// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/tool"
)

// devTools runs QEMU from a directory named by the environment. Booting a real image through
// the product's own tool set is test/e2e's business; this is for work on the harness itself.
func devTools(t *testing.T) *tool.Set {
	root := os.Getenv("IMGBUILD_QEMU_ROOT")
	if root == "" {
		t.Skip("IMGBUILD_QEMU_ROOT does not name an unpacked QEMU tool set")
	}
	return tool.New(root)
}

// TestFirmware boots the firmware with an empty disk: QEMU accepts the arguments, the console
// speaks, ports are forwarded, the monitor answers, and nothing is left behind.
func TestFirmware(t *testing.T) {
	tools := devTools(t)
	image := filepath.Join(t.TempDir(), "empty.raw")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	ignition := filepath.Join(t.TempDir(), "ignition.json")
	if err := os.WriteFile(ignition, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	spoke := make(chan string, 100)
	m, err := Boot(t.Context(), tools, Spec{Image: image, DiskSize: 64 << 20, SectorSize: 4096, CPUs: 2, MemoryMiB: 512, Accel: TCG,
		Ignition: ignition, KernelArguments: []string{"a=b,c"}, NICs: []NIC{{Forwards: []int{6443, 10250}}}},
		func(l Line) {
			select {
			case spoke <- l.Text:
			default:
			}
		}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	a, err := m.Forward(t.Context(), 6443)
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.Forward(t.Context(), 10250)
	if err != nil || a == b || !strings.HasPrefix(a, "127.0.0.1:") {
		t.Fatalf("forwards %q and %q, %v", a, b, err)
	}
	select {
	case l := <-spoke:
		t.Logf("console: %q", l)
	case <-time.After(2 * time.Minute):
		t.Fatal("the firmware said nothing")
	}
	if s, err := m.Status(t.Context()); s != "running" {
		t.Errorf("status %q, %v", s, err)
	}
	if err := m.Reset(t.Context()); err != nil {
		t.Error(err)
	}
	m.Stop()
	if err := m.Err(); err != nil {
		t.Errorf("after Stop: %v", err)
	}
	if _, err := os.Stat(m.Spec.Dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", m.Spec.Dir, err)
	}
}

// TestContextEndsMachine cancels the context of a running machine.
func TestContextEndsMachine(t *testing.T) {
	tools := devTools(t)
	image := filepath.Join(t.TempDir(), "empty.raw")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	m, err := Boot(ctx, tools, Spec{Image: image, CPUs: 1, MemoryMiB: 256, Accel: Auto}, nil, func(s string) { t.Log(s) })
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-m.Exited()
	if err := m.Err(); err != nil {
		t.Errorf("after cancel: %v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

// Package e2e boots the real image in a virtual machine and looks at it with real clients. The
// tests run when IMGBUILD_E2E is 1, as `make test` and `make e2e` set it; IMGBUILD_E2E_LONG=1
// adds those that boot many times. out/imgbuild and the image must exist.
package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/erofs/go-erofs"

	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/builder/vm"
)

// env is what the tests work with, found once.
type env struct {
	root, imgbuild, image string
	qemu                  *tool.Set
	kubernetes            string
	// probeDisk is an EROFS that holds the in-guest probe.
	probeDisk string
}

var (
	envOnce sync.Once
	shared  env
	envErr  error
)

// need returns the environment or skips the test where boot tests are not asked for.
func need(t *testing.T) env {
	t.Helper()
	if os.Getenv("IMGBUILD_E2E") != "1" {
		t.Skip("boot tests run under make test and make e2e (IMGBUILD_E2E=1)")
	}
	envOnce.Do(func() { shared, envErr = findEnv() })
	if envErr != nil {
		t.Fatal(envErr)
	}
	return shared
}

func needLong(t *testing.T) env {
	t.Helper()
	e := need(t)
	if os.Getenv("IMGBUILD_E2E_LONG") != "1" {
		t.Skip("this test boots many times; it runs under make e2e (IMGBUILD_E2E_LONG=1)")
	}
	return e
}

func findEnv() (e env, err error) {
	_, file, _, _ := runtime.Caller(0)
	e.root = filepath.Dir(filepath.Dir(filepath.Dir(file)))
	e.imgbuild = filepath.Join(e.root, "out/imgbuild")
	if e.image = os.Getenv("IMGBUILD_IMAGE"); e.image == "" {
		e.image = filepath.Join(e.root, "out/controlplane-amd64.raw")
	}
	for _, f := range []string{e.imgbuild, e.image} {
		if _, err := os.Stat(f); err != nil {
			return e, fmt.Errorf("%w; run make image first", err)
		}
	}
	qemu, err := e.output("tool", "path", "qemu")
	if err != nil {
		return e, err
	}
	e.qemu = tool.New(qemu)
	programs, err := e.output("component", "kubernetes")
	if err != nil {
		return e, err
	}
	e.kubernetes, _, _ = strings.Cut(programs, "\n")
	e.probeDisk, err = buildProbe(e.root)
	return e, err
}

// output runs imgbuild and returns what it prints.
func (e env) output(args ...string) (string, error) {
	cmd := exec.Command(e.imgbuild, append([]string{"--progress", "none"}, args...)...)
	cmd.Dir = e.root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", cmd, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// compile makes a static program for guests.
func compile(root, pkg, to string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", to, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}

// buildProbe compiles the in-guest probe and puts it on a disk.
func buildProbe(root string) (string, error) {
	dir := filepath.Join(root, "out/test/probe")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if err := compile(root, "./test/e2e/probe", filepath.Join(dir, "probe")); err != nil {
		return "", err
	}
	disk := dir + ".erofs"
	f, err := os.Create(disk)
	if err != nil {
		return "", err
	}
	defer f.Close()
	w := erofs.Create(f)
	if err := errors.Join(w.CopyFrom(os.DirFS(dir)), w.Close()); err != nil {
		return "", err
	}
	return disk, f.Truncate(16 << 20)
}

// probeDir is where the probe's disk is mounted in the guest, by probeMount.
const (
	probeDir   = "/var/lib/imgbuildtest"
	probeUnit  = "var-lib-imgbuildtest.mount"
	probeMount = "[Unit]\nDescription=Test programs\n[Mount]\nWhat=/dev/disk/by-id/virtio-imgbuild1\nWhere=" + probeDir +
		"\nType=erofs\nOptions=ro\n[Install]\nWantedBy=multi-user.target\n"
)

// options describe a machine for tests: as many processors as the host has, up to four.
func (e env) options(t *testing.T) vm.Options {
	t.Helper()
	var mu sync.Mutex
	return vm.Options{
		Spec: vm.Spec{Image: e.image, Disks: []string{e.probeDisk}, CPUs: min(4, max(2, runtime.NumCPU())), MemoryMiB: vm.DefaultMemoryMiB,
			DiskSize: 8 << 30, Accel: vm.Accel(os.Getenv("IMGBUILD_E2E_ACCEL"))},
		Units:   []vm.GuestUnit{{Name: probeUnit, Contents: probeMount}},
		Timeout: bootTimeout,
		Events: func(ev vm.Event) {
			mu.Lock()
			defer mu.Unlock()
			if t.Context().Err() == nil {
				t.Logf("%7.2f s  %-11s %s", ev.At.Seconds(), ev.Kind, ev.Text)
			}
		},
	}
}

// bootTimeout is generous: the machine that runs the tests may be slow and busy.
const bootTimeout = 15 * time.Minute

// guest is a running node and the clients to look at it.
type guest struct {
	inside
	node *vm.Node
}

// boot starts a machine that ends with the test, and waits until its node is Ready.
func (e env) boot(t *testing.T, o vm.Options) (*guest, *vm.Result) {
	t.Helper()
	g := e.start(t, o)
	result, err := g.node.WaitReady(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("Ready in %s\n%s", result.Ready.D().Round(10*time.Millisecond), result.Timeline.Table())
	return g, result
}

func (e env) start(t *testing.T, o vm.Options) *guest {
	t.Helper()
	e.needRoom(t, 1, o.Spec.MemoryMiB)
	node, err := vm.Start(t.Context(), e.qemu, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.Close)
	return &guest{inside: inside{view: view{T: t, env: e, kubeconfig: node.Kubeconfig}, pod: probePod}, node: node}
}

// with returns the guest for a subtest.
func (g *guest) with(t *testing.T) *guest {
	return &guest{inside: inside{view: g.in(t), pod: g.pod}, node: g.node}
}

// write makes a file that only its owner can read, and its directory.
func write(t *testing.T, path string, text []byte) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// read is a file that has to be there.
func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

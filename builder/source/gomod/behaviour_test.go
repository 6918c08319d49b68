// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"context"
	"debug/elf"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/progress"
)

// Two checkouts in different places give the same bytes. The second is built the way a
// service builds: without HOME, with caches of imgbuild's own, which are empty.
func TestReproducible(t *testing.T) {
	build := func(cache string) string {
		t.Helper()
		root := t.TempDir()
		if err := copyTree(filepath.Join(checkout, Directory, "pause"), filepath.Join(root, Directory, "pause")); err != nil {
			t.Fatal(err)
		}
		c, err := Load(root, "pause")
		if err != nil {
			t.Fatal(err)
		}
		tc, err := FindToolchain(t.Context(), cache)
		if err != nil {
			t.Fatal(err)
		}
		outputs, err := tc.Build(t.Context(), c, Options{Arch: "amd64", Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		return outputs[0].SHA256
	}
	first := build(t.TempDir())
	withoutHome(t)
	cache := t.TempDir()
	if second := build(cache); second != first {
		t.Errorf("two builds differ: %s and %s", first, second)
	}
	if _, err := os.Stat(filepath.Join(cache, "go/build")); err != nil {
		t.Errorf("the second build did not use the cache it was given: %v", err)
	}
}

func withoutHome(t *testing.T) {
	for _, v := range []string{"HOME", "GOPATH", "GOCACHE", "GOMODCACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"} {
		t.Setenv(v, "") // so that it is restored
		os.Unsetenv(v)
	}
}

func TestCrossBuild(t *testing.T) {
	c, err := Load(checkout, "pause")
	if err != nil {
		t.Fatal(err)
	}
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		dir := t.TempDir()
		if _, err := toolchain(t).Build(t.Context(), c, Options{Arch: arch, Dir: dir}); err != nil {
			t.Fatal(err)
		}
		f, err := elf.Open(filepath.Join(dir, "pause"))
		if err != nil {
			t.Fatal(err)
		}
		if f.Machine != machine {
			t.Errorf("%s: built for %v", arch, f.Machine)
		}
		f.Close()
	}
}

// notes records what a build reports.
type notes struct {
	mu   sync.Mutex
	all  []string
	done []error
}

func (n *notes) Start(name string, _ int64) progress.Task { n.Note(name); return n }
func (n *notes) Total(int64)                              {}
func (n *notes) Add(int64)                                {}
func (n *notes) Note(s string)                            { n.mu.Lock(); n.all = append(n.all, s); n.mu.Unlock() }
func (n *notes) Done(err error)                           { n.mu.Lock(); n.done = append(n.done, err); n.mu.Unlock() }

func TestCompilerErrors(t *testing.T) {
	root := component(t, "pause", "", map[string]string{
		FileName: read(t, checkout, Directory, "pause", FileName),
		"go.mod": read(t, checkout, Directory, "pause", "go.mod"), "main.go": "package main\n\nfunc main() { undefinedFunction() }\n",
	})
	c, err := Load(root, "pause")
	if err != nil {
		t.Fatal(err)
	}
	n := &notes{}
	_, err = toolchain(t).Build(t.Context(), c, Options{Arch: "amd64", Dir: t.TempDir(), Progress: n})
	if fault.ClassOf(err) != fault.Build || !strings.Contains(err.Error(), "undefinedFunction") {
		t.Errorf("got class %d: %v", fault.ClassOf(err), err)
	}
	if len(n.done) != 1 || n.done[0] == nil {
		t.Errorf("the task ended with %v", n.done)
	}
}

// Without a network and without the module, the error names the module.
func TestOffline(t *testing.T) {
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOMODCACHE", t.TempDir())
	root := component(t, "sample", good, map[string]string{
		"main.go": "package main\n\nimport _ \"example.org/upstream\"\n\nfunc main() {}\n",
		"go.sum":  "example.org/upstream v1.2.3 h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nexample.org/upstream v1.2.3/go.mod h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
	})
	c, err := Load(root, "sample")
	if err != nil {
		t.Fatal(err)
	}
	tc := toolchain(t)
	dir := t.TempDir()
	_, err = tc.Build(t.Context(), c, Options{Arch: "amd64", Dir: dir})
	check := func(what string, err error) {
		t.Helper()
		if fault.ClassOf(err) != fault.Network || !strings.Contains(err.Error(), "module example.org/upstream@v1.2.3") {
			t.Errorf("%s: got class %d: %v", what, fault.ClassOf(err), err)
		}
	}
	check("build", err)
	_, err = tc.Pin(t.Context(), c)
	check("pin", err)
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A cancelled build ends, and so does everything it started.
func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	pidFile := filepath.Join(t.TempDir(), "pid")
	started := make(chan error, 1)
	go func() {
		_, err := command{argv: []string{"sh", "-c", "sleep 1000 & echo $! >" + pidFile + ".new; mv " + pidFile + ".new " + pidFile + "; wait"}, dir: ".", env: os.Environ()}.run(ctx)
		started <- err
	}()
	var pid []byte
	for len(pid) == 0 {
		pid, _ = os.ReadFile(pidFile)
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-started; fault.ClassOf(err) != fault.Interrupted {
		t.Errorf("got %v", err)
	}
	// The grandchild is gone, or a zombie that nobody has collected yet.
	stat := filepath.Join("/proc", strings.TrimSpace(string(pid)), "stat")
	for {
		data, err := os.ReadFile(stat)
		if err != nil {
			break
		}
		if _, after, _ := strings.Cut(string(data), ") "); strings.HasPrefix(after, "Z") {
			break
		}
		time.Sleep(time.Millisecond)
	}
}

func TestToolchainIgnoresUserSettings(t *testing.T) {
	t.Setenv("GOFLAGS", "-tags=surprise")
	t.Setenv("GOARCH", "s390x")
	t.Setenv("CGO_ENABLED", "1")
	tc := toolchain(t)
	if !strings.HasPrefix(tc.Version, "go1.") {
		t.Errorf("version is %q", tc.Version)
	}
	env := strings.Join(tc.target("arm64"), "\n")
	for _, want := range []string{"GOFLAGS=\n", "GOARCH=arm64", "CGO_ENABLED=0", "GOTOOLCHAIN=local"} {
		if !strings.Contains(env+"\n", want) {
			t.Errorf("the environment lacks %q", want)
		}
	}
	if strings.Contains(env, "surprise") || strings.Contains(env, "s390x") {
		t.Error("the user's settings reach the compiler")
	}
}

func TestToolchainWithoutHome(t *testing.T) {
	withoutHome(t)
	cache := t.TempDir()
	tc, err := FindToolchain(t.Context(), cache)
	if err != nil {
		t.Fatal(err)
	}
	env := strings.Join(tc.target("amd64"), "\n") + "\n"
	for _, want := range []string{"GOCACHE=" + cache + "/go/build\n", "GOMODCACHE=" + cache + "/go/mod\n", "GOFLAGS=-modcacherw\n"} {
		if !strings.Contains(env, want) {
			t.Errorf("the environment lacks %q", want)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	signals "os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/build/buildtest"
	"github.com/imgbuild/imgbuild/builder/cli"
	"github.com/imgbuild/imgbuild/builder/fault"
)

// hold makes the mirror serve half of a package and then nothing. The channel is closed
// when it got that far.
func (s *site) hold(pkg buildtest.Package) chan struct{} {
	reached := make(chan struct{})
	s.Mirror.Answer(pkg, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", itoa(len(pkg.Bytes)))
		w.Header().Set("ETag", `"1"`)
		_, _ = w.Write(pkg.Bytes[:len(pkg.Bytes)/2])
		_ = http.NewResponseController(w).Flush()
		select {
		case <-reached:
		default:
			close(reached)
		}
		<-r.Context().Done()
	})
	return reached
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			if signals.Ignored(signal) {
				t.Skip("the tests themselves were started by nohup")
			}
			s := newSite(t).warm(t)
			kmod := s.Package(t, "kmod")
			reached := s.hold(kmod)
			c := s.command(t, "build", "--profile", "node")
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			<-reached
			s.untilPackages(t, s.Packages()-1)
			if err := c.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			c.finish(t).want(t, fault.Interrupted, "interrupted", "stay in the cache", "run the same command again")
			s.cleanAndUsable(t)
			if r := s.Mirror.Requests(); len(r) != 1 || r[0] != kmod.Pin.Path {
				t.Errorf("the next build fetched %q, want only what the first had not finished", r)
			}
		})
	}
}

// Who is started by nohup goes on when the terminal ends.
func TestNohup(t *testing.T) {
	const started = "IMGBUILD_TEST_NOHUP"
	if ends := slices.Contains(cli.EndingSignals(), os.Signal(syscall.SIGHUP)); ends == signals.Ignored(syscall.SIGHUP) {
		t.Errorf("the end of the terminal ends the work: %t", ends)
	}
	if os.Getenv(started) != "" {
		if !signals.Ignored(syscall.SIGHUP) {
			t.Error("not started as nohup does")
		}
		return
	}
	cmd := exec.Command("sh", "-c", `trap "" HUP; exec "$0" -test.run='^TestNohup$'`, os.Args[0])
	cmd.Env = append(os.Environ(), started+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// untilPackages waits until the store holds so many complete packages.
func (s *site) untilPackages(t *testing.T, n int) {
	t.Helper()
	for {
		blobs, err := filepath.Glob(filepath.Join(s.cache, "blobs", "*", "*.stamp"))
		if err != nil {
			t.Fatal(err)
		}
		if len(blobs) >= n {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// cleanAndUsable checks that no build left anything half-written and that the next works.
func (s *site) cleanAndUsable(t *testing.T) {
	t.Helper()
	if got := names(t, filepath.Dir(s.image)); len(got) != 0 {
		t.Errorf("out/ holds %q", got)
	}
	if got := names(t, filepath.Join(s.cache, "tmp")); len(got) != 0 {
		t.Errorf("the store holds unfinished %q", got)
	}
	if o := s.run(t, "cache", "verify"); o.status != 0 || !strings.Contains(o.out, " 0 dropped") {
		t.Errorf("cache verify: status %d\n%s%s", o.status, o.out, o.stderr)
	}
	for _, pkg := range []string{"kmod", "hello"} {
		s.Mirror.Answer(s.Package(t, pkg), nil)
	}
	s.Mirror.Requests()
	s.build(t)
}

// A process killed at any point leaves files that the next one removes or uses.
func TestKilled(t *testing.T) {
	t.Parallel()
	reference := newSite(t).warm(t)
	reference.build(t)
	want := digest(t, reference.image)
	for name, begun := range map[string]func(*site) bool{
		"download": func(s *site) bool { return found(filepath.Join(s.cache, "partial"), "") },
		"unpack":   func(s *site) bool { return found(filepath.Join(s.cache, "tmp"), "files") },
		"compile":  func(s *site) bool { return found(filepath.Join(s.cache, "tmp"), "pause") },
		"initrd":   func(s *site) bool { return found(filepath.Join(s.cache, "tmp"), "initrd.img") },
		"image":    func(s *site) bool { return found(filepath.Dir(s.image), ".incomplete-") },
		"receipt":  func(s *site) bool { return found(filepath.Dir(s.image), "node-amd64.raw") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			if !s.killWhen(t, name != "compile", begun) {
				t.Skip("every build was over before the signal reached it")
			}
			s.build(t)
			if got := names(t, filepath.Dir(s.image)); len(got) != 2 {
				t.Errorf("out/ holds %q", got)
			}
			if got := names(t, filepath.Join(s.cache, "tmp")); len(got) != 0 {
				t.Errorf("the store holds unfinished %q", sortedKeys(contents(t, filepath.Join(s.cache, "tmp"))))
			}
			if digest(t, s.image) != want {
				t.Error("the image differs from that of an undisturbed build")
			}
		})
	}
}

// killWhen starts builds until one can be killed after begun turned true.
func (s *site) killWhen(t *testing.T, warm bool, begun func(*site) bool) bool {
	t.Helper()
	for range 10 {
		if err := os.RemoveAll(s.cache); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Dir(s.image)); err != nil {
			t.Fatal(err)
		}
		if warm {
			s.warm(t)
		}
		c := s.command(t, "build", "--profile", "node")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		over := make(chan outcome, 1)
		go func() { over <- c.finish(t) }()
		for len(over) == 0 && !begun(s) {
			time.Sleep(200 * time.Microsecond)
		}
		_ = c.Process.Kill()
		if o := <-over; o.status == -1 {
			return true
		}
	}
	return false
}

// found says whether dir holds, at any depth, a name that contains part.
func found(dir, part string) bool {
	hit := false
	_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && name != dir && strings.Contains(filepath.Base(name), part) {
			hit = true
			return fs.SkipAll
		}
		return nil
	})
	return hit
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// Builds that run at the same time share the work and agree on the result.
func TestConcurrentBuilds(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	children := []*child{s.command(t, "--profile", "node"), s.command(t, "--profile", "node"), s.command(t, "--profile", "node", "--output", s.image+".copy.raw")}
	for _, c := range children {
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range children {
		c.finish(t).want(t, 0)
	}
	if digest(t, s.image) != digest(t, s.image+".copy.raw") {
		t.Error("concurrent builds made different images")
	}
	if got := names(t, filepath.Dir(s.image)); len(got) != 4 {
		t.Errorf("out/ holds %q", got)
	}
	if r := s.Mirror.Requests(); len(r) != s.Packages() {
		t.Errorf("%d packages were fetched by %d requests: %q", s.Packages(), len(r), r)
	}
	s.run(t, "inspect", "--verify", s.image).want(t, 0)
}

// SPDX-License-Identifier: Apache-2.0

package phase

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

var errPower = errors.New("the power is gone")

// flakyFile is a disk whose power fails: after left writes one more is torn in the
// middle (or lost, or entire but never reported), and nothing works afterwards.
type flakyFile struct {
	data []byte
	left int
	// tear is how many bytes of the last write reach the disk.
	tear func(n int) int
	dead bool
	// off is called once when the power fails.
	off func()
}

func (f *flakyFile) Write(p []byte) (int, error) {
	if f.dead {
		return 0, errPower
	}
	if f.left > 0 {
		f.left--
		f.data = append(f.data, p...)
		return len(p), nil
	}
	f.dead = true
	if f.tear != nil {
		f.data = append(f.data, p[:f.tear(len(p))]...)
	}
	if f.off != nil {
		f.off()
	}
	return 0, errPower
}

func (f *flakyFile) Sync() error {
	if f.dead {
		return errPower
	}
	return nil
}

func (f *flakyFile) Close() error { return nil }

// TestEveryPowerCutConverges cuts the power at every write of the journal, in four ways,
// and twice over: the run after a cut is cut again. Whatever was left, an undisturbed run
// must finish, no phase may run without its needs, and no phase may run again once its
// done entry is on disk.
func TestEveryPowerCutConverges(t *testing.T) {
	tears := map[string]func(int) int{
		"lost": func(int) int { return 0 }, "torn": func(n int) int { return n / 2 },
		"without newline": func(n int) int { return n - 1 }, "entire": func(n int) int { return n },
	}
	for name, tear := range tears {
		for first := range 10 { // five phases, two entries each
			for _, second := range []int{0, 1, 4, 7} {
				w, disk := newWorld(), []byte(nil)
				for _, left := range []int{first, second} {
					disk = cutRun(t, w, disk, left, tear)
				}
				entries, _, err := ParseJournal(disk)
				if err != nil {
					t.Fatalf("%s at %d then %d: %v", name, first, second, err)
				}
				before := map[string]int{}
				for _, e := range entries {
					if e.Event == EventDone {
						before[e.Phase] = w.facts[e.Phase]
					}
				}
				cutRun(t, w, disk, 1000, tear)
				for _, phase := range []string{"a", "b", "c", "d", "e"} {
					if !w.has(phase) {
						t.Errorf("%s at %d then %d: %s never happened", name, first, second, phase)
					}
					if n, done := before[phase]; done && w.facts[phase] != n {
						t.Errorf("%s at %d then %d: %s ran again though it was done", name, first, second, phase)
					}
				}
			}
		}
	}
}

// cutRun runs the diamond on what a disk holds until the power fails after left writes,
// and returns what the disk holds then.
func cutRun(t *testing.T, w *world, disk []byte, left int, tear func(int) int) []byte {
	t.Helper()
	entries, whole, err := ParseJournal(disk)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f := &flakyFile{data: append([]byte(nil), disk[:whole]...), left: left, tear: tear, off: cancel}
	err = (&Runner[*world]{Graph: diamond(t), Journal: newJournal(f, entries), Document: "d"}).Run(ctx, w)
	if f.dead != (err != nil) {
		t.Fatalf("after %d writes: power failed %v, error %v", left, f.dead, err)
	}
	return f.data
}

// diskWorld is a world made of files, for the process that is killed.
func diskGraph(t testing.TB, dir string, kill func(point string)) *Graph[*world] {
	var ps []Phase[*world]
	for _, p := range []Phase[*world]{fact("a"), fact("b", "a"), fact("c", "a"), fact("d", "b", "c")} {
		name, needs := p.Name, p.Needs
		p.Check = func(context.Context, *world) error { _, err := os.Stat(filepath.Join(dir, name)); return err }
		p.Run = func(context.Context, *world) error {
			for _, n := range needs {
				if _, err := os.Stat(filepath.Join(dir, n)); err != nil {
					return Permanent(fmt.Errorf("%s ran before %s", name, n))
				}
			}
			kill(name + "-before")
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				return err
			}
			kill(name + "-after")
			return nil
		}
		ps = append(ps, p)
	}
	g, err := New(ps...)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

const killEnv = "IMGBUILD_TEST_KILL"

// TestKilledProcess is the child: it kills itself at the point that the variable names.
func TestKilledProcess(t *testing.T) {
	spec := os.Getenv(killEnv)
	if spec == "" {
		t.Skip("run by TestSIGKILLConverges only")
	}
	dir, point, _ := strings.Cut(spec, "|")
	g := diskGraph(t, dir, func(at string) {
		if at == point {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
	if _, err := runWith(t, filepath.Join(dir, "journal"), g, newWorld(), "d"); err != nil {
		t.Fatal(err)
	}
}

func TestSIGKILLConverges(t *testing.T) {
	dir := t.TempDir()
	for _, point := range []string{"a-before", "a-after", "b-before", "c-after", "b-after", "d-before", "d-after", ""} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$")
		cmd.Env = append(os.Environ(), killEnv+"="+dir+"|"+point)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		if point == "" && err != nil || err != nil && !killed {
			t.Fatalf("at %q: %v\n%s", point, err, out)
		}
		if (point == "a-before" || point == "a-after") && !killed {
			t.Fatalf("at %q: the process was not killed", point)
		}
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

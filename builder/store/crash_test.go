// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// These tests kill -9 real processes that fill a store: this test binary runs itself with
// crashDir set and works until it is shot. Whatever moment is hit, the next process must
// find a store that works, never uses wrong bytes, and keeps no dead process's work.

const crashDir = "IMGBUILD_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		step := func() { _, _ = os.Stdout.Write([]byte{'.'}) }
		if err := crashWork(dir, os.Getenv("IMGBUILD_TEST_CRASH_ROUNDS") == "1", step); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const crashItems = 6

// crashData returns the n-th test content, large enough that killing hits its writing.
func crashData(n int) []byte {
	b := make([]byte, 300_000)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// crashWork puts and derives, forever or once. Every file it is given back is read and
// compared, so that it fails if the store ever hands out wrong bytes. Each process evicts
// now and then, so that the others keep having work.
func crashWork(dir string, once bool, step func()) error {
	ctx := context.Background()
	s, err := Open(dir)
	if err != nil {
		return err
	}
	for round := 0; ; round++ {
		for n := range crashItems {
			data := crashData(n)
			path, err := s.Put(ctx, DigestOf(data), int64(len(data)), func(_ context.Context, f *os.File) error {
				at, err := f.Seek(0, io.SeekCurrent)
				for ; err == nil && at < int64(len(data)); at += 10_000 {
					_, err = f.Write(data[at:min(at+10_000, int64(len(data)))])
				}
				return err
			})
			if err != nil {
				return fmt.Errorf("put %d: %w", n, err)
			}
			// Another process may evict the blob at any time; what is read must be right.
			if got, err := os.ReadFile(path); err == nil && !bytes.Equal(got, data) {
				return fmt.Errorf("blob %d has wrong bytes", n)
			}
			step()
			e, err := s.Derive(ctx, NewKey("crash", 1, fmt.Sprint(n)), func(_ context.Context, dir string) error {
				for i := range 4 {
					if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), crashData(n)[i:], 0o644); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("derive %d: %w", n, err)
			}
			for i := range 4 {
				if got, err := os.ReadFile(filepath.Join(e.Dir, fmt.Sprint(i))); err == nil && !bytes.Equal(got, data[i:]) {
					return fmt.Errorf("entry %d has wrong bytes", n)
				}
			}
			step()
		}
		if once {
			return nil
		}
		n := rand.IntN(crashItems)
		if err := s.Evict(DigestOf(crashData(n))); err != nil {
			return err
		}
		if err := s.EvictEntry(NewKey("crash", 1, fmt.Sprint(rand.IntN(crashItems)))); err != nil {
			return err
		}
	}
}

// crashWorker is this test binary at work in a store. It writes a byte per step.
type crashWorker struct {
	cmd   *exec.Cmd
	steps io.Reader
}

func (w *crashWorker) await(t *testing.T, steps int) {
	t.Helper()
	if _, err := io.ReadFull(w.steps, make([]byte, steps)); err != nil {
		t.Fatalf("worker ended early: %v\n%s", err, w.cmd.Stderr)
	}
}

func startCrashWorker(t *testing.T, dir, rounds string) (*crashWorker, *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), crashDir+"="+dir, "IMGBUILD_TEST_CRASH_ROUNDS="+rounds)
	out := &bytes.Buffer{}
	cmd.Stderr = out
	steps, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &crashWorker{cmd, steps}, out
}

func TestKilledAtAnyMoment(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	kills := 20
	if testing.Short() {
		kills = 8
	}
	for range kills {
		// Two at once: one is shot while the other works on, or waits for its lock. They
		// are shot somewhere in a step that is counted, not timed, so that a busy machine
		// does not shoot them before they began.
		a, aout := startCrashWorker(t, dir, "")
		b, bout := startCrashWorker(t, dir, "")
		for _, w := range []*crashWorker{a, b} {
			w.await(t, 1+rand.IntN(8))
			time.Sleep(time.Duration(rand.IntN(5000)) * time.Microsecond)
			_ = w.cmd.Process.Kill()
			_ = w.cmd.Wait()
		}
		if aout.Len()+bout.Len() > 0 {
			t.Fatalf("worker failed before it was killed:\n%s%s", aout, bout)
		}
	}
	checkAfterCrash(t, dir)
}

// checkAfterCrash lets one process complete everything and looks at what is left.
func checkAfterCrash(t *testing.T, dir string) {
	t.Helper()
	last, out := startCrashWorker(t, dir, "1")
	_, _ = io.Copy(io.Discard, last.steps)
	if err := last.cmd.Wait(); err != nil {
		t.Fatalf("store is unusable after the crashes: %v\n%s", err, out)
	}
	for _, area := range []string{"tmp", "partial"} {
		left, err := os.ReadDir(filepath.Join(dir, area))
		if err != nil || len(left) != 0 {
			t.Errorf("%s holds %v, %v", area, left, err)
		}
	}
	s, _ := Open(dir)
	err := s.VerifyAll(t.Context(), func(it Item, err error) {
		if err != nil {
			t.Errorf("%s %s was published damaged: %v", it.Kind, it.Name, err)
		}
	})
	if err != nil {
		t.Error(err)
	}
	for n := range crashItems {
		if !s.Has(DigestOf(crashData(n))) {
			t.Errorf("blob %d is missing", n)
		}
		if _, ok := s.Lookup(NewKey("crash", 1, fmt.Sprint(n))); !ok {
			t.Errorf("entry %d is missing", n)
		}
	}
}

// A power cut tears what was not synced. Every file of a store, cut off or zeroed as a
// journal replay may leave it, must heal.
func TestTornFilesHeal(t *testing.T) {
	for _, tear := range []string{"truncated", "emptied", "zeroed", "gone"} {
		t.Run(tear, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "cache")
			if err := crashWork(dir, true, func() {}); err != nil {
				t.Fatal(err)
			}
			var files []string
			_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, _ error) error {
				if d.Type().IsRegular() && !strings.Contains(p, "/locks/") {
					files = append(files, p)
				}
				return nil
			})
			for i, p := range files {
				if i%3 == 0 {
					continue // a mixture of sound and torn files
				}
				switch tear {
				case "gone":
					if err := os.Remove(p); err != nil {
						t.Fatal(err)
					}
				case "zeroed":
					rewrite(t, p, func(b []byte) []byte { return make([]byte, len(b)) })
				default:
					damage[tear](t, p)
				}
			}
			checkAfterCrash(t, dir)
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
)

func open(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func writer(data string) func(context.Context, *os.File) error {
	return func(_ context.Context, f *os.File) error {
		at, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		_, err = io.WriteString(f, data[at:])
		return err
	}
}

func mustPut(t testing.TB, s *Store, data string) (Digest, string) {
	t.Helper()
	d := DigestOf([]byte(data))
	p, err := s.Put(t.Context(), d, int64(len(data)), writer(data))
	if err != nil {
		t.Fatal(err)
	}
	return d, p
}

func TestOpenWritesNothing(t *testing.T) {
	s := open(t)
	if s.Has(DigestOf(nil)) {
		t.Error("empty store has a blob")
	}
	if _, ok := s.Lookup(NewKey("k", 1)); ok {
		t.Error("empty store has an entry")
	}
	if items, err := s.Usage(); err != nil || len(items) != 0 {
		t.Errorf("usage of nothing: %v, %v", items, err)
	}
	if _, err := os.Stat(s.Dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("looking created %s (%v)", s.Dir(), err)
	}
}

func TestOpenRefusesFile(t *testing.T) {
	p := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(p, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(p); fault.ClassOf(err) != fault.Usage {
		t.Errorf("Open of a file: %v", err)
	}
}

func TestPut(t *testing.T) {
	s := open(t)
	d, p := mustPut(t, s, "hello")
	got, err := os.ReadFile(p)
	if err != nil || string(got) != "hello" {
		t.Fatalf("blob holds %q, %v", got, err)
	}
	info, _ := os.Stat(p)
	if info.Mode().Perm() != 0o444 {
		t.Errorf("blob mode %v", info.Mode())
	}
	again, err := s.Put(t.Context(), d, 5, func(context.Context, *os.File) error {
		t.Error("fill called for a blob the store has")
		return nil
	})
	if err != nil || again != p {
		t.Errorf("second Put: %s, %v", again, err)
	}
}

func TestPutResumes(t *testing.T) {
	s := open(t)
	d := DigestOf([]byte("hello world"))
	broken := errors.New("connection lost")
	_, err := s.Put(t.Context(), d, 11, func(_ context.Context, f *os.File) error {
		_, _ = io.WriteString(f, "hello ")
		return broken
	})
	if !errors.Is(err, broken) {
		t.Fatal(err)
	}
	var at int64
	p, err := s.Put(t.Context(), d, 11, func(ctx context.Context, f *os.File) error {
		at, _ = f.Seek(0, io.SeekCurrent)
		return writer("hello world")(ctx, f)
	})
	if err != nil || at != 6 {
		t.Fatalf("resumed at %d, %v", at, err)
	}
	if got, _ := os.ReadFile(p); string(got) != "hello world" {
		t.Errorf("blob holds %q", got)
	}
}

// A process killed after the last byte and before the rename has nothing left to fetch.
func TestPutPublishesCompletePartial(t *testing.T) {
	s := open(t)
	if err := s.ready(); err != nil {
		t.Fatal(err)
	}
	d := DigestOf([]byte("complete"))
	if err := os.WriteFile(s.partialPath(d), []byte("complete"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := s.Put(t.Context(), d, 8, func(context.Context, *os.File) error { return errors.New("called") })
	if err != nil {
		t.Error(err)
	}
}

func TestPutMismatch(t *testing.T) {
	s := open(t)
	d := DigestOf([]byte("wanted"))
	for _, size := range []int64{-1, 6, 3} {
		_, err := s.Put(t.Context(), d, size, func(_ context.Context, f *os.File) error {
			_, err := io.WriteString(f, "stolen")
			return err
		})
		var m *MismatchError
		if fault.ClassOf(err) != fault.Digest || !errors.As(err, &m) {
			t.Fatalf("size %d: %v", size, err)
		}
		if m.Got != DigestOf([]byte("stolen")) || m.Want != d || m.GotSize != 6 {
			t.Errorf("size %d: %+v", size, m)
		}
		if s.Has(d) {
			t.Error("wrong bytes were published")
		}
		if _, err := os.Stat(s.partialPath(d)); !errors.Is(err, fs.ErrNotExist) {
			t.Error("wrong bytes were kept for resuming")
		}
	}
}

func TestPutNoSpace(t *testing.T) {
	s := open(t)
	_, err := s.Put(t.Context(), DigestOf(nil), 1<<60, func(context.Context, *os.File) error {
		t.Error("fill called though the bytes cannot fit")
		return nil
	})
	if fault.ClassOf(err) != fault.NoSpace || !strings.Contains(err.Error(), "bytes free") {
		t.Errorf("got %v", err)
	}
	_, err = s.Put(t.Context(), DigestOf(nil), -1, func(context.Context, *os.File) error {
		return &fs.PathError{Op: "write", Path: "x", Err: enospc}
	})
	if fault.ClassOf(err) != fault.NoSpace {
		t.Errorf("got %v", err)
	}
}

// damage lists ways a file goes bad under a store that was told it is good.
var damage = map[string]func(t *testing.T, path string){
	"flipped byte": func(t *testing.T, path string) {
		rewrite(t, path, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	},
	"flipped byte, mtime reset": func(t *testing.T, path string) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		rewrite(t, path, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
	},
	"truncated": func(t *testing.T, path string) {
		rewrite(t, path, func(b []byte) []byte { return b[:len(b)-1] })
	},
	"emptied": func(t *testing.T, path string) { rewrite(t, path, func([]byte) []byte { return nil }) },
	"grown":   func(t *testing.T, path string) { rewrite(t, path, func(b []byte) []byte { return append(b, 0) }) },
	"replaced": func(t *testing.T, path string) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("hellO"), 0o444); err != nil {
			t.Fatal(err)
		}
	},
	"became a directory": func(t *testing.T, path string) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
	},
}

func rewrite(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestBlobDamageIsDetectedAndRepaired(t *testing.T) {
	for name, harm := range damage {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			d, p := mustPut(t, s, "hello")
			harm(t, p)
			if s.Has(d) {
				t.Error("Has believes a damaged blob")
			}
			if _, err := s.Blob(d); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Blob of a damaged blob: %v", err)
			}
			harmless, _ := mustPut(t, s, "hello")
			if !s.Has(harmless) {
				t.Error("not repaired")
			}
		})
	}
}

func TestPutRepairsDamage(t *testing.T) {
	s := open(t)
	_, p := mustPut(t, s, "hello")
	damage["flipped byte"](t, p)
	_, p = mustPut(t, s, "hello")
	if got, _ := os.ReadFile(p); string(got) != "hello" {
		t.Errorf("blob holds %q", got)
	}
}

// A store that was copied or restored has new inodes: everything is hashed once, nothing
// is fetched again, and the new stamps are kept.
func TestCopiedStoreStaysUsable(t *testing.T) {
	s := open(t)
	d, p := mustPut(t, s, "hello")
	old, _ := stampOf(p)
	if err := os.CopyFS(s.Dir()+"2", os.DirFS(s.Dir())); err != nil {
		t.Fatal(err)
	}
	s2, _ := Open(s.Dir() + "2")
	p2, err := s2.Blob(d)
	if err != nil {
		t.Fatal(err)
	}
	var rec stamp
	if !readJSON(p2+".stamp", &rec) || rec == old {
		t.Errorf("stamp was not renewed: %+v", rec)
	}
}

// Damage that no inode shows is what Verify and VerifyAll are for. Rewriting the stamp
// after the damage imitates it.
func TestVerifySilentDamage(t *testing.T) {
	s := open(t)
	d, p := mustPut(t, s, "hello")
	sound, _ := mustPut(t, s, "sound")
	damage["flipped byte"](t, p)
	now, _ := stampOf(p)
	writeJSON(p+".stamp", now)
	if !s.Has(d) {
		t.Fatal("the imitation of silent damage does not work")
	}
	if err := s.Verify(d); fault.ClassOf(err) != fault.Corrupt {
		t.Errorf("Verify: %v", err)
	}
	if s.Has(d) {
		t.Error("used after Verify failed")
	}
	writeJSON(p+".stamp", now)
	var bad []string
	err := s.VerifyAll(t.Context(), func(it Item, err error) {
		if err != nil {
			bad = append(bad, it.Name)
		}
	})
	if err != nil || !slices.Equal(bad, []string{string(d)}) {
		t.Errorf("VerifyAll found %v, %v", bad, err)
	}
	if _, err := os.Stat(p); !errors.Is(err, fs.ErrNotExist) {
		t.Error("VerifyAll kept the damaged blob")
	}
	if err := s.Verify(sound); err != nil {
		t.Error(err)
	}
}

func TestEvict(t *testing.T) {
	s := open(t)
	d, _ := mustPut(t, s, "hello")
	for range 2 {
		if err := s.Evict(d); err != nil {
			t.Fatal(err)
		}
	}
	if s.Has(d) {
		t.Error("still there")
	}
}

func TestConcurrentPutFillsOnce(t *testing.T) {
	s := open(t)
	var fills atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			// Each goroutine has its own Store, as a process would.
			own, _ := Open(s.Dir())
			_, err := own.Put(t.Context(), DigestOf([]byte("shared")), 6, func(ctx context.Context, f *os.File) error {
				fills.Add(1)
				return writer("shared")(ctx, f)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := fills.Load(); n != 1 {
		t.Errorf("fill ran %d times", n)
	}
}

func TestPruneRefusesWhileInUse(t *testing.T) {
	s := open(t)
	d, _ := mustPut(t, s, "hello")
	other, _ := Open(s.Dir())
	if _, err := other.Prune(func(Item) bool { return false }); fault.ClassOf(err) != fault.Usage {
		t.Errorf("pruned under a build: %v", err)
	}
	if !s.Has(d) {
		t.Error("the blob is gone")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if freed, err := other.Prune(func(Item) bool { return false }); err != nil || freed != 5 {
		t.Errorf("freed %d, %v", freed, err)
	}
}

func TestLockHonoursContext(t *testing.T) {
	s := open(t)
	l, err := s.lock(t.Context(), strings.Repeat("a", 64))
	if err != nil {
		t.Fatal(err)
	}
	defer l.release()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.lock(ctx, strings.Repeat("a", 64)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestUsageAndPrune(t *testing.T) {
	s := open(t)
	if items, err := s.Usage(); err != nil || len(items) != 0 {
		t.Fatalf("usage of nothing: %v, %v", items, err)
	}
	d, _ := mustPut(t, s, "hello")
	mustPut(t, s, "goodbye")
	key := NewKey("test", 1)
	if _, err := s.Derive(t.Context(), key, writeFiles(map[string]string{"a": "12", "b/c": "345"})); err != nil {
		t.Fatal(err)
	}
	_, _ = s.Put(t.Context(), DigestOf([]byte("x")), 9, func(_ context.Context, f *os.File) error {
		_, _ = io.WriteString(f, "part")
		return io.ErrUnexpectedEOF
	})
	items, err := s.Usage()
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[ItemKind]int64{}
	for _, it := range items {
		sizes[it.Kind] += it.Size
		if time.Since(it.Used) > time.Hour || time.Since(it.Used) < -time.Hour {
			t.Errorf("%v used at %v", it.Kind, it.Used)
		}
	}
	if sizes[BlobItem] != 12 || sizes[PartialItem] != 4 || sizes[EntryItem] < 5 {
		t.Errorf("sizes %v", sizes)
	}
	freed, err := s.Prune(func(it Item) bool { return it.Name == string(d) })
	if err != nil || freed < 7+4+5 {
		t.Errorf("freed %d, %v", freed, err)
	}
	items, _ = s.Usage()
	if len(items) != 1 || items[0].Name != string(d) || !s.Has(d) {
		t.Errorf("left: %+v", items)
	}
	if left, _ := os.ReadDir(filepath.Join(s.Dir(), "locks")); len(left) != 0 {
		t.Errorf("locks left: %v", left)
	}
}

// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/builder/fault"
)

var enospc = unix.ENOSPC

func writeFiles(files map[string]string) func(context.Context, string) error {
	return func(_ context.Context, dir string) error {
		for name, data := range files {
			p := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				return err
			}
			if strings.HasPrefix(data, "-> ") {
				if err := os.Symlink(data[3:], p); err != nil {
					return err
				}
			} else if err := os.WriteFile(p, []byte(data), 0o755); err != nil {
				return err
			}
		}
		return nil
	}
}

var sample = map[string]string{"bin/tool": "hello", "lib": "-> bin", "empty": ""}

func TestDerive(t *testing.T) {
	s := open(t)
	key := NewKey("test", 1, "a")
	e, err := s.Derive(t.Context(), key, writeFiles(sample))
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Files) != 2 || e.Files[0].Path != "bin/tool" || e.Files[0].SHA256 != DigestOf([]byte("hello")) || e.Files[0].Mode != 0o755 {
		t.Errorf("files %+v", e.Files)
	}
	if len(e.Links) != 1 || e.Links[0] != (EntryLink{"lib", "bin"}) {
		t.Errorf("links %+v", e.Links)
	}
	r, err := e.Open("bin/tool")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := e.Path("bin/other"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Path of a missing file: %v", err)
	}
	if err := e.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	again, err := s.Derive(t.Context(), key, func(context.Context, string) error {
		t.Error("built again")
		return nil
	})
	if err != nil || again.Dir != e.Dir {
		t.Errorf("second Derive: %+v, %v", again, err)
	}
	if _, ok := s.Lookup(key); !ok {
		t.Error("Lookup does not find it")
	}
	if err := s.EvictEntry(key); err != nil {
		t.Error(err)
	}
	if _, ok := s.Lookup(key); ok {
		t.Error("evicted entry is still there")
	}
}

func TestDeriveFailureLeavesNothing(t *testing.T) {
	s := open(t)
	boom := errors.New("boom")
	key := NewKey("test", 1)
	_, err := s.Derive(t.Context(), key, func(_ context.Context, dir string) error {
		_ = os.Mkdir(filepath.Join(dir, "ro"), 0o755)
		_ = os.WriteFile(filepath.Join(dir, "ro", "f"), nil, 0o644)
		_ = os.Chmod(filepath.Join(dir, "ro"), 0o555)
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Join(s.Dir(), "tmp")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, ok := s.Lookup(key); ok {
		t.Error("failed result is in the store")
	}
}

func TestDeriveRefusesOddFiles(t *testing.T) {
	_, err := open(t).Derive(t.Context(), NewKey("test", 1), func(_ context.Context, dir string) error {
		return unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600)
	})
	if err == nil || !strings.Contains(err.Error(), "pipe") {
		t.Errorf("got %v", err)
	}
}

func TestDeriveInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := open(t).Derive(ctx, NewKey("test", 1), func(ctx context.Context, _ string) error {
		cancel()
		return ctx.Err()
	})
	if fault.ClassOf(err) != fault.Interrupted {
		t.Errorf("got %v", err)
	}
}

func TestEntryDamageIsDetectedAndRebuilt(t *testing.T) {
	harms := map[string]func(*testing.T, *Entry){
		"file removed": func(t *testing.T, e *Entry) { os.Remove(filepath.Join(e.Dir, "empty")) },
		"link changed": func(t *testing.T, e *Entry) {
			os.Remove(filepath.Join(e.Dir, "lib"))
			os.Symlink("elsewhere", filepath.Join(e.Dir, "lib"))
		},
		"index torn": func(t *testing.T, e *Entry) {
			damage["truncated"](t, filepath.Join(filepath.Dir(e.Dir), "index"))
		},
		"index edited": func(t *testing.T, e *Entry) {
			damage["flipped byte"](t, filepath.Join(filepath.Dir(e.Dir), "index"))
		},
		"index lost": func(t *testing.T, e *Entry) { os.Remove(filepath.Join(filepath.Dir(e.Dir), "index")) },
	}
	for name, harm := range damage {
		harms["file "+name] = func(t *testing.T, e *Entry) { harm(t, filepath.Join(e.Dir, "bin/tool")) }
	}
	for name, harm := range harms {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			key := NewKey("test", 1)
			e, err := s.Derive(t.Context(), key, writeFiles(sample))
			if err != nil {
				t.Fatal(err)
			}
			harm(t, e)
			if _, ok := s.Lookup(key); ok {
				t.Error("Lookup believes a damaged entry")
			}
			built := false
			e, err = s.Derive(t.Context(), key, func(ctx context.Context, dir string) error {
				built = true
				return writeFiles(sample)(ctx, dir)
			})
			if err != nil || !built {
				t.Fatalf("rebuilt %v, %v", built, err)
			}
			if err := e.Verify(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEntrySilentDamage(t *testing.T) {
	s := open(t)
	key := NewKey("test", 1)
	e, err := s.Derive(t.Context(), key, writeFiles(sample))
	if err != nil {
		t.Fatal(err)
	}
	damage["flipped byte"](t, filepath.Join(e.Dir, "bin/tool"))
	index, _ := os.ReadFile(filepath.Join(filepath.Dir(e.Dir), "index"))
	forged := entryStamps{Index: DigestOf(index)}
	for _, f := range e.Files {
		st, _ := stampOf(filepath.Join(e.Dir, f.Path))
		forged.Files = append(forged.Files, st)
	}
	writeJSON(filepath.Join(filepath.Dir(e.Dir), "stamps"), forged)
	if _, ok := s.Lookup(key); !ok {
		t.Fatal("the imitation of silent damage does not work")
	}
	if err := e.Verify(t.Context()); fault.ClassOf(err) != fault.Corrupt || !strings.Contains(err.Error(), "bin/tool") {
		t.Errorf("Verify: %v", err)
	}
	r, err := e.Open("bin/tool")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadAll(r); fault.ClassOf(err) != fault.Corrupt {
		t.Errorf("reading: %v", err)
	}
	removed := 0
	err = s.VerifyAll(t.Context(), func(_ Item, err error) {
		if err != nil {
			removed++
		}
	})
	if _, ok := s.Lookup(key); ok || err != nil || removed != 1 {
		t.Errorf("VerifyAll removed %d, %v", removed, err)
	}
}

func TestConcurrentDeriveBuildsOnce(t *testing.T) {
	s := open(t)
	var builds atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			own, _ := Open(s.Dir())
			_, err := own.Derive(t.Context(), NewKey("test", 1), func(ctx context.Context, dir string) error {
				builds.Add(1)
				return writeFiles(sample)(ctx, dir)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := builds.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
}

func TestStaleTemporaryIsRemovedAndBusyKept(t *testing.T) {
	s := open(t)
	if err := s.ready(); err != nil {
		t.Fatal(err)
	}
	stale, busy := NewKey("stale", 1), NewKey("busy", 1)
	for _, k := range []Key{stale, busy} {
		if err := os.MkdirAll(filepath.Join(s.Dir(), "tmp", string(k)+".1", "files"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l, err := s.lock(t.Context(), string(busy))
	if err != nil {
		t.Fatal(err)
	}
	defer l.release()
	other, _ := Open(s.Dir())
	mustPut(t, other, "anything")
	left, _ := os.ReadDir(filepath.Join(s.Dir(), "tmp"))
	if len(left) != 1 || left[0].Name() != string(busy)+".1" {
		t.Errorf("left: %v", left)
	}
}

func TestNewKeyIsUnambiguous(t *testing.T) {
	seen := map[Key]string{}
	for name, k := range map[string]Key{
		"none":     NewKey("k", 1),
		"empty":    NewKey("k", 1, ""),
		"ab":       NewKey("k", 1, "ab"),
		"a b":      NewKey("k", 1, "a", "b"),
		"b a":      NewKey("k", 1, "b", "a"),
		"forged":   NewKey("k", 1, "1:a,1:b"),
		"version":  NewKey("k", 2, "ab"),
		"kind":     NewKey("k1", 1, "ab"),
		"kind+ver": NewKey("k", 11, "ab"),
	} {
		if other := seen[k]; other != "" {
			t.Errorf("%s and %s share a key", name, other)
		}
		seen[k] = name
	}
	// Written out, because a key that changes makes every cache worthless.
	if got := NewKey("k", 1, "a"); got != "010ac4716eb4851154273ee357538ec48dde85d211b3756a7b5a9738a2cd7e27" {
		t.Errorf("the encoding of keys changed: %s", got)
	}
}

func FuzzParseDigest(f *testing.F) {
	f.Add(strings.Repeat("0", 64))
	f.Add("sha256:" + strings.Repeat("a", 64))
	f.Add(strings.Repeat("A", 64))
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDigest(text)
		if err != nil {
			if d != "" {
				t.Error("digest and error")
			}
			return
		}
		sum := d.Sum()
		if len(text) != 64 || strings.ToLower(text) != text || sum == [32]byte{} && text != strings.Repeat("0", 64) {
			t.Errorf("accepted %q", text)
		}
	})
}

func FuzzDecodeIndex(f *testing.F) {
	key := NewKey("k", 1)
	good, _ := (&index{Key: key, Files: []EntryFile{{Path: "a"}}}).encode()
	f.Add(good)
	f.Add([]byte(indexHeader))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := decodeIndex(data, key)
		if err != nil {
			if !errors.Is(err, errDamaged) {
				t.Errorf("unclassified: %v", err)
			}
			return
		}
		if x.Key != key {
			t.Error("accepted another key's index")
		}
	})
}

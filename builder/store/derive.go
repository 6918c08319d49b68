// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func (s *Store) entryPath(k Key) string {
	return filepath.Join(s.shard("entries", string(k)), string(k))
}

// entryStamps is the content of an entry's stamps file: one stamp per file of the index
// with that digest.
type entryStamps struct {
	Index Digest  `json:"index"`
	Files []stamp `json:"files"`
}

// Lookup returns the derived result of key when the store holds it undamaged. It writes
// nothing.
func (s *Store) Lookup(key Key) (*Entry, bool) {
	e, err := s.load(context.Background(), key, false)
	return e, err == nil
}

// Derive returns the result of key, calling build to make it when the store does not hold
// it. Build writes regular files, directories and symbolic links into dir, which is empty
// and disappears if build fails. Of several processes and goroutines asking for the same
// key one does the work and the others wait.
func (s *Store) Derive(ctx context.Context, key Key, build func(ctx context.Context, dir string) error) (*Entry, error) {
	if !isHex(string(key)) {
		return nil, fmt.Errorf("key %q: want 64 lower-case hexadecimal digits", string(key))
	}
	_ = s.ready() // a store on a read-only disk can be read all the same
	if e, err := s.load(ctx, key, true); err == nil {
		return e, nil
	}
	l, err := s.lock(ctx, string(key))
	if err != nil {
		return nil, s.classify(err, 0)
	}
	defer l.release()
	e, err := s.load(ctx, key, true)
	if err == nil {
		return e, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, s.classify(err, 0)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		if err := s.removeEntry(key); err != nil {
			return nil, err
		}
	}
	if err := s.make(ctx, key, build); err != nil {
		return nil, s.classify(err, 0)
	}
	return s.load(ctx, key, true)
}

// make builds and publishes an entry; the lock is held.
func (s *Store) make(ctx context.Context, key Key, build func(context.Context, string) error) error {
	s.removeTemporary(key)
	// The random part keeps a child process that outlived its killed parent from writing
	// into the directory of the next attempt.
	tmp, err := os.MkdirTemp(filepath.Join(s.dir, "tmp"), string(key)+".")
	if err != nil {
		return err
	}
	defer func() { _ = removeTree(tmp) }()
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	files := filepath.Join(tmp, "files")
	if err := os.Mkdir(files, 0o755); err != nil {
		return err
	}
	// A power cut or kill from here to the rename leaves only a directory under tmp/,
	// which the next writer removes because nobody holds its lock.
	if err := build(ctx, files); err != nil {
		return err
	}
	if err := writeRecords(ctx, key, tmp); err != nil {
		return err
	}
	if err := syncTree(tmp); err != nil {
		return err
	}
	path := s.entryPath(key)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	// Everything below tmp is on disk. After a power cut the entry is either complete
	// under its name or absent.
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeRecords writes index and stamps of the files below tmp.
func writeRecords(ctx context.Context, key Key, tmp string) error {
	x, stamps, err := makeIndex(ctx, key, filepath.Join(tmp, "files"))
	if err != nil {
		return err
	}
	data, err := x.encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, "index"), data, 0o644); err != nil {
		return err
	}
	// Renaming the directory changes no inode below it, so the stamps stay valid.
	settle(stamps...)
	writeJSON(filepath.Join(tmp, "stamps"), entryStamps{Index: DigestOf(data), Files: stamps})
	return nil
}

// load returns the entry of key, an error wrapping fs.ErrNotExist, or one wrapping
// errDamaged. Files whose stamps changed are hashed; with record set, new stamps are kept.
func (s *Store) load(ctx context.Context, key Key, record bool) (*Entry, error) {
	if !isHex(string(key)) {
		return nil, fs.ErrNotExist
	}
	base := s.entryPath(key)
	data, err := os.ReadFile(filepath.Join(base, "index"))
	if err != nil {
		if _, serr := os.Lstat(base); serr == nil && errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cached result %s has no index: %w", key, errDamaged)
		}
		return nil, err
	}
	x, err := decodeIndex(data, key)
	if err != nil {
		return nil, err
	}
	e := &Entry{Dir: filepath.Join(base, "files"), Key: key, Files: x.Files, Links: x.Links}
	var old entryStamps
	if !readJSON(filepath.Join(base, "stamps"), &old) || old.Index != DigestOf(data) || len(old.Files) != len(x.Files) {
		old.Files = make([]stamp, len(x.Files)) // zero stamps match no file
	}
	seen, changed := make([]stamp, len(x.Files)), false
	bad, err := e.compare(ctx, func(i int, now stamp) bool {
		same := old.Files[i] == now
		changed = changed || !same
		return same
	}, seen)
	if err != nil {
		return nil, err
	}
	if len(bad) > 0 {
		return nil, fmt.Errorf("cached result %s: %w: %s", key, errDamaged, strings.Join(bad, ", "))
	}
	switch {
	case record && changed:
		s.restamp(e, DigestOf(data), seen)
	case record:
		touch(filepath.Join(base, "stamps"))
	}
	return e, nil
}

// restamp records that the files were hashed, unless one changed meanwhile.
func (s *Store) restamp(e *Entry, index Digest, seen []stamp) {
	settle(seen...)
	for i, f := range e.Files {
		if now, err := stampOf(filepath.Join(e.Dir, filepath.FromSlash(f.Path))); err != nil || now != seen[i] {
			return
		}
	}
	writeJSON(filepath.Join(s.entryPath(e.Key), "stamps"), entryStamps{Index: index, Files: seen})
}

// EvictEntry removes a derived result. Removing what is not there is no error.
func (s *Store) EvictEntry(key Key) error {
	if !isHex(string(key)) {
		return fmt.Errorf("key %q: invalid", string(key))
	}
	l, err := s.lock(context.Background(), string(key))
	if err != nil {
		return err
	}
	defer l.release()
	return s.removeEntry(key)
}

// removeEntry takes the entry out of sight in one step and then deletes it; the lock is
// held. Killed in between, the rest is under tmp/ and goes with the next writer.
func (s *Store) removeEntry(key Key) error {
	tmp, err := os.MkdirTemp(filepath.Join(s.dir, "tmp"), string(key)+".")
	if err != nil {
		return s.classify(err, 0)
	}
	if err := os.Rename(s.entryPath(key), filepath.Join(tmp, "evicted")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return removeTree(tmp)
}

// removeTemporary deletes what earlier attempts at key left; the lock is held.
func (s *Store) removeTemporary(key Key) {
	old, _ := filepath.Glob(filepath.Join(globEscape(s.dir), "tmp", string(key)+".*"))
	for _, dir := range old {
		_ = removeTree(dir)
	}
}

// removeTree deletes dir even where a build left directories it may not write to.
func removeTree(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// temporaryKey returns the key a directory under tmp/ belongs to.
func temporaryKey(name string) (Key, bool) {
	key, _, ok := strings.Cut(name, ".")
	return Key(key), ok && isHex(key)
}

// syncTree makes everything below dir durable: file by file when there are few, with one
// syncfs when there are many, since that costs less than hundreds of journal commits.
func syncTree(dir string) error {
	const few = 48
	var paths []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && (d.IsDir() || d.Type().IsRegular()) {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(paths) > few {
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer d.Close()
		if err := unix.Syncfs(int(d.Fd())); err != nil {
			return fmt.Errorf("syncfs %s: %w", dir, err)
		}
		return nil
	}
	for _, p := range paths {
		if err := syncDir(p); err != nil {
			return err
		}
	}
	return nil
}

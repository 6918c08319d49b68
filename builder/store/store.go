// SPDX-License-Identifier: Apache-2.0

// Package store keeps every byte a build starts from or derives, in one directory that
// concurrent builds share:
//
//	blobs/ab/<digest>          downloaded or imported bytes, named by their SHA-256
//	blobs/ab/<digest>.stamp    what the blob's inode looked like when it was last hashed
//	entries/ab/<key>/index     what a derived result consists of, with digests
//	entries/ab/<key>/stamps    the inodes of its files when they were last hashed
//	entries/ab/<key>/files/    the derived files themselves
//	partial/<digest>           a download in progress, kept so that it can be resumed
//	tmp/<key>.<random>/        a derived result in progress
//	locks/<digest or key>      one flock per piece of work, on what is here or elsewhere
//	in-use                     a flock every build shares and pruning wants for itself
//
// # What is detected, and when
//
// A blob or entry is used without reading it again only while size, inode number, mtime
// and ctime of its files equal those recorded when it was last hashed. Any write,
// truncation, replacement or touch after it was published changes one of them, so it is
// hashed in full before its next use and, if it does not match, removed and made again.
// ctime cannot be set by a program, so resetting mtime hides nothing.
//
// Damage below the file system (a failing disk) changes no inode. It is found by readers
// that verify what they copy (package tree does for everything that enters an image), by
// Entry.Open, Entry.Verify, Verify and VerifyAll. A file added to an entry's directory by
// someone else is not noticed; it is in no index, and readers go by the index.
//
// # Crashes
//
// Nothing is visible under its final name before its bytes are on disk: data is synced,
// then renamed, then the directory is synced. The comment at each step says what a power
// cut there leaves. Work in progress of a dead process is recognised by its lock being
// free (the kernel drops a flock with its owner) and removed by the next writer.
package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// Store is one cache directory. It is safe for concurrent use, by goroutines and by
// processes.
type Store struct {
	dir     string
	prepare sync.Once
	prepErr error
	inUse   *os.File // shared flock that keeps Prune away
}

// DefaultDir returns $XDG_CACHE_HOME/imgbuild, or ~/.cache/imgbuild without it.
func DefaultDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fault.Wrap(fault.Usage, fmt.Errorf("no cache directory: %w", err),
			"set HOME or XDG_CACHE_HOME, or name a directory with --cache-dir")
	}
	return filepath.Join(base, "imgbuild"), nil
}

// Open returns the store in dir. It writes nothing, so that a plan can be printed without
// touching the disk; the first operation that writes creates the directories and removes
// what dead processes left behind.
func Open(dir string) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("cache directory %s: %w", dir, err)
	}
	switch info, err := os.Stat(abs); {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fault.Wrap(fault.Usage, fmt.Errorf("cache directory: %w", err), "name another directory with --cache-dir")
	case !info.IsDir():
		return nil, fault.New(fault.Usage, "name another directory with --cache-dir", "cache directory %s is not a directory", abs)
	}
	return &Store{dir: abs}, nil
}

// Dir returns the absolute path of the store.
func (s *Store) Dir() string { return s.dir }

// ready creates the directories and removes stale work, once per Store.
func (s *Store) ready() error {
	s.prepare.Do(func() {
		for _, d := range []string{"blobs", "entries", "partial", "tmp", "locks"} {
			if err := os.MkdirAll(filepath.Join(s.dir, d), 0o755); err != nil {
				s.prepErr = s.classify(fmt.Errorf("cache directory: %w", err), 0)
				return
			}
		}
		if s.prepErr = s.announce(); s.prepErr == nil {
			s.cleanTemporary()
		}
	})
	return s.prepErr
}

// announce takes the shared lock that says a build relies on what the store holds.
func (s *Store) announce() error {
	f, err := os.OpenFile(filepath.Join(s.dir, "in-use"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return s.classify(fmt.Errorf("cache directory: %w", err), 0)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_SH)
		if err == nil {
			s.inUse = f
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			f.Close()
			return fmt.Errorf("cache directory %s: lock: %w", s.dir, err)
		}
	}
}

// Close lets Prune of other processes go ahead. The end of the process does the same.
func (s *Store) Close() error {
	if s.inUse == nil {
		return nil
	}
	return s.inUse.Close()
}

// cleanTemporary removes results in progress whose lock is free, which means that their
// process is gone. Failing to remove one costs disk space only, so errors are dropped.
func (s *Store) cleanTemporary() {
	names, err := os.ReadDir(filepath.Join(s.dir, "tmp"))
	if err != nil {
		return
	}
	for _, n := range names {
		key, ok := temporaryKey(n.Name())
		if !ok {
			continue
		}
		l, ok := s.tryLock(string(key))
		if !ok {
			continue
		}
		_ = removeTree(filepath.Join(s.dir, "tmp", n.Name()))
		l.release()
	}
}

// shard spreads names over 256 directories.
func (s *Store) shard(area, name string) string {
	return filepath.Join(s.dir, area, name[:2])
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

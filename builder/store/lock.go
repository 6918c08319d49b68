// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// held is one acquired lock. Locks are flocks on files under locks/, one per digest, key or
// piece of work: they exclude goroutines as well as processes, because each acquisition opens the
// file anew, and the kernel drops them when their process dies in any way.
type held struct{ f *os.File }

// Lock takes the lock of name, for work on something outside the store that no two builds
// may do at once, and returns what lets go of it. When another process or goroutine has the
// lock, waiting is called and Lock waits until ctx ends.
func (s *Store) Lock(ctx context.Context, name Digest, waiting func()) (unlock func(), err error) {
	if !isHex(string(name)) {
		return nil, fmt.Errorf("cache lock %q: invalid digest", string(name))
	}
	l, err := s.lockOrWait(ctx, string(name), waiting)
	if err != nil {
		return nil, s.classify(err, 0)
	}
	return l.release, nil
}

// lock waits for the lock of a blob or entry until ctx ends.
func (s *Store) lock(ctx context.Context, name string) (*held, error) {
	return s.lockOrWait(ctx, name, func() {})
}

// lockOrWait polls, as flock cannot be interrupted; the work it waits for takes seconds.
func (s *Store) lockOrWait(ctx context.Context, name string, waiting func()) (*held, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		l, err := s.attempt(name)
		if l != nil || err != nil {
			return l, err
		}
		if wait == time.Millisecond {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for another build to finish %.12s: %w", name, ctx.Err())
		case <-time.After(wait):
		}
	}
}

// tryLock acquires the lock of name if nobody holds it.
func (s *Store) tryLock(name string) (*held, bool) {
	l, err := s.attempt(name)
	return l, l != nil && err == nil
}

// attempt returns nil, nil when the lock is held by someone else.
func (s *Store) attempt(name string) (*held, error) {
	path := filepath.Join(s.dir, "locks", name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, s.classify(fmt.Errorf("cache lock: %w", err), 0)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
			return nil, nil
		}
		return nil, fmt.Errorf("cache lock %s: %w", path, err)
	}
	// The previous holder unlinks the file before it lets go, so the lock just taken may
	// be on a file without a name, which excludes nobody. Only a named one counts.
	mine, err1 := f.Stat()
	named, err2 := os.Stat(path)
	if err1 != nil || err2 != nil || !os.SameFile(mine, named) {
		f.Close()
		return nil, nil
	}
	return &held{f}, nil
}

// release unlinks the lock's file while still holding it, then lets go. Killed in
// between, an empty file remains that the next acquisition reuses.
func (l *held) release() {
	_ = os.Remove(l.f.Name())
	_ = l.f.Close()
}

// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// errDamaged reports a blob or entry whose bytes are not those it is named after.
var errDamaged = errors.New("damaged")

func (s *Store) blobPath(d Digest) string {
	return filepath.Join(s.shard("blobs", string(d)), string(d))
}

// Has reports whether the blob is present and undamaged. It writes nothing.
func (s *Store) Has(d Digest) bool {
	return s.checkBlob(context.Background(), d, false) == nil
}

// Blob returns the path of a blob. The error wraps fs.ErrNotExist when the store does not
// have it, and also when what it has turns out to be damaged: that is removed first, so
// the caller fetches it again as if it had never been there.
func (s *Store) Blob(d Digest) (string, error) {
	ctx := context.Background()
	_ = s.ready() // a store on a read-only disk can be read all the same
	err := s.checkBlob(ctx, d, true)
	if errors.Is(err, errDamaged) {
		if err := s.evictDamaged(ctx, d); err != nil {
			return "", err
		}
		// Another process may have repaired it while this one waited for the lock.
		err = s.checkBlob(ctx, d, true)
	}
	if err != nil {
		return "", err
	}
	return s.blobPath(d), nil
}

// checkBlob returns nil, an error wrapping fs.ErrNotExist, one wrapping errDamaged, or
// what kept it from finding out. With record set, it remembers a successful hash.
func (s *Store) checkBlob(ctx context.Context, d Digest, record bool) error {
	if !isHex(string(d)) {
		return fmt.Errorf("blob %q: invalid digest: %w", string(d), fs.ErrNotExist)
	}
	path := s.blobPath(d)
	now, err := stampOf(path)
	if errors.Is(err, errNotRegular) {
		return fmt.Errorf("%w: %w", err, errDamaged)
	}
	if err != nil {
		return err
	}
	var seen stamp
	if readJSON(path+".stamp", &seen) && seen == now {
		if record {
			touch(path + ".stamp")
		}
		return nil
	}
	return s.rehash(ctx, d, record)
}

// rehash reads the whole blob and, when it matches, records its stamp.
func (s *Store) rehash(ctx context.Context, d Digest, record bool) error {
	path := s.blobPath(d)
	before, err := stampOf(path)
	if err != nil {
		return err
	}
	settle(before)
	got, _, err := HashFile(ctx, path)
	if err != nil {
		return err
	}
	if got != d {
		return fmt.Errorf("cached blob %s holds %s: %w", d, got, errDamaged)
	}
	// Recorded only if nobody touched the file while it was read.
	if after, err := stampOf(path); record && err == nil && after == before {
		writeJSON(path+".stamp", after)
	}
	return nil
}

// Verify reads the whole blob and returns an error of class Corrupt if its bytes do not
// match. The damaged blob stays for inspection but is not used again.
func (s *Store) Verify(d Digest) error {
	err := s.verify(context.Background(), d)
	if errors.Is(err, errDamaged) {
		return fault.Wrap(fault.Corrupt, err, "run the build again: it fetches the bytes anew")
	}
	return err
}

func (s *Store) verify(ctx context.Context, d Digest) error {
	err := s.rehash(ctx, d, true)
	if errors.Is(err, errDamaged) {
		// Without its stamp the next use hashes it again and throws it away.
		_ = os.Remove(s.blobPath(d) + ".stamp")
	}
	return err
}

// Evict removes a blob and what was downloaded of it so far. Removing what is not there
// is no error.
func (s *Store) Evict(d Digest) error {
	if !isHex(string(d)) {
		return fmt.Errorf("blob %q: invalid digest", string(d))
	}
	l, err := s.lock(context.Background(), string(d))
	if err != nil {
		return err
	}
	defer l.release()
	return errors.Join(s.removeBlob(d), s.removePartial(d))
}

// evictDamaged removes the blob unless it turns out sound once the lock is held.
func (s *Store) evictDamaged(ctx context.Context, d Digest) error {
	l, err := s.lock(ctx, string(d))
	if err != nil {
		return err
	}
	defer l.release()
	if err := s.checkBlob(ctx, d, true); !errors.Is(err, errDamaged) {
		return nil
	}
	return s.removeBlob(d)
}

// removeBlob deletes blob and stamp; the lock is held. A power cut between the two leaves
// a stamp without a blob, or a blob without a stamp, which is hashed before use.
func (s *Store) removeBlob(d Digest) error {
	path := s.blobPath(d)
	if info, err := os.Lstat(path); err == nil && info.IsDir() {
		return os.RemoveAll(path)
	}
	return errors.Join(removeIfPresent(path), removeIfPresent(path+".stamp"))
}

func removeIfPresent(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

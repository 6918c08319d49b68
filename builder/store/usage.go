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
	"time"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// ItemKind says what an item of the store is. The zero value is invalid.
type ItemKind int

// The kinds of item.
const (
	BlobItem ItemKind = iota + 1
	EntryItem
	PartialItem
)

func (k ItemKind) String() string {
	switch k {
	case BlobItem:
		return "blob"
	case EntryItem:
		return "derived result"
	case PartialItem:
		return "partial download"
	}
	return "invalid"
}

// Item is one thing the store holds.
type Item struct {
	Kind ItemKind
	// Name is a digest or a key.
	Name string
	// Size is the number of bytes of all its files.
	Size int64
	// Used is when the item was made or last used, to the day.
	Used time.Time
}

// Usage lists what the store holds, in the order blobs, derived results, partial
// downloads, each by name. A store that does not exist yet is empty.
func (s *Store) Usage() ([]Item, error) {
	var items []Item
	for _, area := range []struct {
		pattern string
		kind    ItemKind
		stamp   func(path string) string
	}{
		{"blobs/??/*", BlobItem, func(p string) string { return p + ".stamp" }},
		{"entries/??/*", EntryItem, func(p string) string { return filepath.Join(p, "stamps") }},
		{"partial/*", PartialItem, func(p string) string { return p }},
	} {
		paths, err := filepath.Glob(filepath.Join(globEscape(s.dir), area.pattern))
		if err != nil {
			return nil, err
		}
		for _, p := range paths {
			if !isHex(filepath.Base(p)) {
				continue
			}
			size, err := sizeOf(p)
			if err != nil {
				return nil, err
			}
			it := Item{Kind: area.kind, Name: filepath.Base(p), Size: size}
			for _, f := range []string{area.stamp(p), p} {
				if info, err := os.Stat(f); err == nil {
					it.Used = info.ModTime()
					break
				}
			}
			items = append(items, it)
		}
	}
	return items, nil
}

// VerifyAll reads everything and removes what is damaged, so that the next build makes it
// again. Each item is reported to seen after it was read, with an error wrapping its
// reason when it was removed. The error returned is what kept VerifyAll from finishing.
func (s *Store) VerifyAll(ctx context.Context, seen func(Item, error)) error {
	items, err := s.Usage()
	if err != nil {
		return err
	}
	for _, it := range items {
		var bad error
		switch it.Kind {
		case BlobItem:
			bad = s.verify(ctx, Digest(it.Name))
		case EntryItem:
			bad = s.verifyEntry(ctx, Key(it.Name))
		default:
			continue // unverifiable until it is complete
		}
		if err := ctx.Err(); err != nil {
			return s.classify(err, 0)
		}
		if errors.Is(bad, fs.ErrNotExist) {
			continue // removed by another process meanwhile
		}
		if errors.Is(bad, errDamaged) {
			if err := s.remove(it); err != nil {
				return err
			}
		} else if bad != nil {
			return bad
		}
		seen(it, bad)
	}
	return nil
}

func (s *Store) verifyEntry(ctx context.Context, key Key) error {
	e, err := s.load(ctx, key, true)
	if err != nil {
		return err
	}
	bad, err := e.compare(ctx, func(int, stamp) bool { return false }, nil)
	if err != nil {
		return err
	}
	if len(bad) > 0 {
		return fmt.Errorf("cached result %s: %w: %s", key, errDamaged, strings.Join(bad, ", "))
	}
	return nil
}

// Prune removes every item for which keep returns false, and the empty locks of dead
// processes. It returns the number of bytes freed. While another build uses the store it
// refuses, because that build relies on what it found there.
func (s *Store) Prune(keep func(Item) bool) (freed int64, err error) {
	items, err := s.Usage()
	if err != nil || len(items) == 0 {
		return 0, err
	}
	if err := s.ready(); err != nil {
		return 0, err
	}
	// A failed conversion drops the shared lock as well, so both ways end by taking it.
	defer func() { _ = unix.Flock(int(s.inUse.Fd()), unix.LOCK_SH) }()
	if err := unix.Flock(int(s.inUse.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return 0, fault.New(fault.Usage, "wait for it to end, then prune again", "cache %s is in use by another build", s.dir)
	}
	for _, it := range items {
		if keep(it) {
			continue
		}
		if err := s.remove(it); err != nil {
			return freed, err
		}
		freed += it.Size
	}
	locks, err := os.ReadDir(filepath.Join(s.dir, "locks"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return freed, err
	}
	for _, l := range locks {
		if h, ok := s.tryLock(l.Name()); ok {
			h.release()
		}
	}
	return freed, nil
}

func (s *Store) remove(it Item) error {
	switch it.Kind {
	case EntryItem:
		return s.EvictEntry(Key(it.Name))
	case PartialItem:
		l, err := s.lock(context.Background(), it.Name)
		if err != nil {
			return err
		}
		defer l.release()
		return s.removePartial(Digest(it.Name))
	default:
		return s.Evict(Digest(it.Name))
	}
}

// sizeOf adds up the regular files at and below path.
func sizeOf(path string) (total int64, err error) {
	err = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // removed meanwhile
			}
			return err
		}
		if info, err := d.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total, err
}

// globEscape quotes the characters filepath.Glob gives a meaning.
func globEscape(p string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(p)
}

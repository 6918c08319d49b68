// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// MismatchError reports bytes that are not those the caller asked for.
type MismatchError struct {
	Want Digest
	// WantSize is -1 when the caller did not know the size.
	WantSize int64
	Got      Digest
	GotSize  int64
	// Resumed says that part of the bytes came from an earlier attempt, so that starting
	// over may help.
	Resumed bool
}

func (e *MismatchError) Error() string {
	if e.WantSize >= 0 && e.GotSize != e.WantSize {
		return fmt.Sprintf("expected %d bytes with SHA-256 %s, got %d bytes with SHA-256 %s", e.WantSize, e.Want, e.GotSize, e.Got)
	}
	return fmt.Sprintf("expected SHA-256 %s, got %s (%d bytes)", e.Want, e.Got, e.GotSize)
}

// PartialNote is the suffix of a file that fill may keep beside partial, to recognise what
// it received when it resumes. The store removes it together with the partial file.
const PartialNote = ".note"

// removePartial deletes what was received and the note about it.
func (s *Store) removePartial(d Digest) error {
	return errors.Join(removeIfPresent(s.partialPath(d)+PartialNote), removeIfPresent(s.partialPath(d)))
}

func (s *Store) partialPath(d Digest) string { return filepath.Join(s.dir, "partial", string(d)) }

// Put makes sure the store holds the blob d and returns its path. When it does not, fill
// is called to write the missing bytes: partial is positioned at its end and holds what an
// earlier, interrupted attempt wrote (its offset says how much; fill may truncate it).
// Size is the expected number of bytes, -1 when unknown.
//
// Of several processes and goroutines asking for the same digest one does the work and the
// others wait. If fill fails the partial file stays for the next attempt; if the result
// does not have the digest it is discarded and the error is of class Digest, wrapping a
// *MismatchError.
func (s *Store) Put(ctx context.Context, d Digest, size int64, fill func(ctx context.Context, partial *os.File) error) (string, error) {
	if !isHex(string(d)) {
		return "", fmt.Errorf("blob %q: invalid digest", string(d))
	}
	if path, err := s.Blob(d); err == nil {
		return path, nil
	}
	l, err := s.lock(ctx, string(d))
	if err != nil {
		return "", s.classify(err, size)
	}
	defer l.release()
	switch err := s.checkBlob(ctx, d, true); {
	case err == nil:
		return s.blobPath(d), nil
	case errors.Is(err, errDamaged):
		if err := s.removeBlob(d); err != nil {
			return "", err
		}
	}
	return s.receive(ctx, d, size, fill)
}

// receive fills, verifies and publishes the partial file; the lock is held.
func (s *Store) receive(ctx context.Context, d Digest, size int64, fill func(context.Context, *os.File) error) (string, error) {
	f, err := os.OpenFile(s.partialPath(d), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return "", s.classify(fmt.Errorf("cache: %w", err), size)
	}
	defer f.Close()
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return "", err
	}
	if size >= 0 && have > size {
		have = 0
		if err := restart(f); err != nil {
			return "", err
		}
	}
	if size < 0 || have < size || size == 0 {
		if free, err := Free(s.dir); err == nil && size > 0 && free < size-have {
			return "", s.noSpace(fmt.Errorf("blob %.12s of %d bytes does not fit", d, size), size-have)
		}
		if err := fill(ctx, f); err != nil {
			return "", s.classify(err, size-have)
		}
	}
	if err := s.settlePartial(ctx, f, d, size, have > 0); err != nil {
		return "", s.classify(err, 0)
	}
	return s.publish(f, d)
}

// settlePartial verifies what was received and makes it durable.
func (s *Store) settlePartial(ctx context.Context, f *os.File, d Digest, size int64, resumed bool) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	got, n, err := hashReader(ctx, f)
	if err != nil {
		return err
	}
	if got != d || (size >= 0 && n != size) {
		if err := s.removePartial(d); err != nil {
			return err
		}
		return fault.Wrap(fault.Digest, &MismatchError{Want: d, WantSize: size, Got: got, GotSize: n, Resumed: resumed}, "")
	}
	// Power cut before this returns: the partial file is torn. Its size may even be right,
	// with zeros for data; it is hashed again before anything else happens to it.
	return f.Sync()
}

// publish gives a verified, synced partial file its final name.
func (s *Store) publish(f *os.File, d Digest) (string, error) {
	path := s.blobPath(d)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", s.classify(err, 0)
	}
	if err := removeIfPresent(s.partialPath(d) + PartialNote); err != nil {
		return "", err
	}
	// Power cut before the rename reaches the disk: a complete partial file, which the
	// next Put verifies and publishes without calling fill.
	if err := os.Rename(f.Name(), path); err != nil {
		return "", s.classify(err, 0)
	}
	// Power cut after it: a complete blob, perhaps without a stamp, hashed at first use.
	if err := syncDir(filepath.Dir(path)); err != nil {
		return "", err
	}
	// Not earlier: its owner could not resume a read-only partial file. Killed before this,
	// the blob merely stays writable.
	if err := f.Chmod(0o444); err != nil {
		return "", err
	}
	// Rename and chmod set ctime, so only now the stamp is final.
	if now, err := stampOf(path); err == nil {
		settle(now)
		writeJSON(path+".stamp", now)
	}
	return path, nil
}

// PutBytes stores data under its own digest.
func (s *Store) PutBytes(ctx context.Context, data []byte) (Digest, string, error) {
	d := DigestOf(data)
	path, err := s.Put(ctx, d, int64(len(data)), func(_ context.Context, f *os.File) error {
		if err := restart(f); err != nil {
			return err
		}
		_, err := io.Copy(f, bytes.NewReader(data))
		return err
	})
	return d, path, err
}

// restart empties a partial file.
func restart(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.Seek(0, io.SeekStart)
	return err
}

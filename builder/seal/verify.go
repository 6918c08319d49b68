// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/builder/progress"
)

// ErrCorrupt reports a sealed root that is not what was written.
var ErrCorrupt = errors.New("damaged root")

// Super is what the superblock of a file system says.
type Super struct {
	DataSize  int64 // bytes
	Files     uint64
	Timestamp int64
	UUID      UUID
	Volume    string
}

// ReadSuper reads the superblock of a file system that this package wrote and checks its
// checksum. Capacity is the size of the partition in bytes.
func ReadSuper(r io.ReaderAt, capacity int64) (Super, error) {
	b := make([]byte, BlockSize)
	if _, err := r.ReadAt(b, 0); err != nil {
		return Super{}, fmt.Errorf("file system superblock: %w", err)
	}
	b = b[superOffset:]
	le := binary.LittleEndian
	if le.Uint32(b) != superMagic {
		return Super{}, fmt.Errorf("%w: there is no EROFS file system", ErrCorrupt)
	}
	want := le.Uint32(b[4:])
	le.PutUint32(b[4:], 0)
	if got := ^crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)); got != want {
		return Super{}, fmt.Errorf("%w: checksum of the EROFS superblock is %08x, recorded %08x", ErrCorrupt, got, want)
	}
	s := Super{
		DataSize:  int64(le.Uint32(b[36:])) * BlockSize,
		Files:     le.Uint64(b[16:]),
		Timestamp: int64(le.Uint64(b[24:])),
		UUID:      UUID(b[48:64]),
		Volume:    string(bytes.TrimRight(b[64:80], "\x00")),
	}
	if b[12] != 12 || s.DataSize == 0 || s.DataSize > capacity {
		return Super{}, fmt.Errorf("%w: a file system of %d bytes (block size 2^%d) on a partition of %d", ErrCorrupt, s.DataSize, b[12], capacity)
	}
	return s, nil
}

// VeritySuper is what the superblock of a hash tree says.
type VeritySuper struct {
	DataSize int64 // bytes
	HashSize int64 // bytes, superblock included
	Salt     Digest
	UUID     UUID
}

// ReadVeritySuper reads the superblock of a hash tree that this package wrote.
func ReadVeritySuper(r io.ReaderAt, capacity int64) (VeritySuper, error) {
	b := make([]byte, veritySuperSize)
	if _, err := r.ReadAt(b, 0); err != nil {
		return VeritySuper{}, fmt.Errorf("verity superblock: %w", err)
	}
	le := binary.LittleEndian
	blocks := le.Uint64(b[72:])
	if blocks == 0 || blocks > 0xffffffff {
		return VeritySuper{}, fmt.Errorf("%w: the verity superblock counts %d data blocks", ErrCorrupt, blocks)
	}
	s := VeritySuper{DataSize: int64(blocks) * BlockSize, HashSize: hashAreaSize(uint32(blocks)), Salt: Digest(b[88:120]), UUID: UUID(b[16:32])}
	if !bytes.Equal(b, encodeVeritySuper(uint32(blocks), s.Salt, s.UUID)) {
		return VeritySuper{}, fmt.Errorf("%w: the verity superblock is not one of ours", ErrCorrupt)
	}
	if s.HashSize > capacity {
		return VeritySuper{}, fmt.Errorf("%w: a hash tree of %d bytes on a partition of %d", ErrCorrupt, s.HashSize, capacity)
	}
	return s, nil
}

// Verify reads the whole root and checks every block against the hash tree and the tree
// against the root hash. An error names the first block that does not match.
func Verify(ctx context.Context, data, hash io.ReaderAt, s VeritySuper, root Digest, task progress.Task) error {
	sums, err := verifyTree(hash, s, root)
	if err != nil {
		return err
	}
	const share = 256 * BlockSize
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for at := int64(0); at < s.DataSize && running.Err() == nil; at += share {
		group.Go(func() error {
			if err := running.Err(); err != nil {
				return err
			}
			buf := make([]byte, min(share, s.DataSize-at))
			if _, err := data.ReadAt(buf, at); err != nil {
				return fmt.Errorf("reading the root at offset %d: %w", at, err)
			}
			got := make([]byte, len(buf)/BlockSize*sha256.Size)
			hashBlocks(got, buf, s.Salt)
			if k := mismatch(got, sums[at/BlockSize*sha256.Size:]); k >= 0 {
				return fmt.Errorf("%w: block %d of the file system (offset %d) does not match its hash", ErrCorrupt, at/BlockSize+k, at+k*BlockSize)
			}
			task.Add(int64(len(buf)))
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// verifyTree checks the levels from the root down and returns the hashes of the data.
func verifyTree(hash io.ReaderAt, s VeritySuper, root Digest) ([]byte, error) {
	area := make([]byte, s.HashSize)
	if _, err := hash.ReadAt(area, 0); err != nil {
		return nil, fmt.Errorf("reading the hash tree: %w", err)
	}
	expected := root[:]
	at := int64(BlockSize)
	sizes := levels(uint32(s.DataSize / BlockSize))
	for k := len(sizes) - 1; k >= 0; k-- {
		level := area[at : at+int64(sizes[k])*BlockSize]
		got := make([]byte, int(sizes[k])*sha256.Size)
		hashBlocks(got, level, s.Salt)
		if bad := mismatch(got, expected); bad >= 0 && k == len(sizes)-1 {
			return nil, fmt.Errorf("%w: the hash tree does not have root hash %s", ErrCorrupt, root)
		} else if bad >= 0 {
			return nil, fmt.Errorf("%w: block %d of the hash tree does not match its hash", ErrCorrupt, at/BlockSize+bad)
		}
		expected = level
		at += int64(len(level))
	}
	return expected, nil
}

// mismatch returns the index of the first hash in got that differs, or -1.
func mismatch(got, want []byte) int64 {
	for k := 0; k < len(got); k += sha256.Size {
		if !bytes.Equal(got[k:k+sha256.Size], want[k:k+sha256.Size]) {
			return int64(k / sha256.Size)
		}
	}
	return -1
}

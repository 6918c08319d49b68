// SPDX-License-Identifier: Apache-2.0

// Package seal turns a tree into the bytes of a sealed root: an EROFS file system and the
// dm-verity hash tree that vouches for every block of it. The root hash that comes out is
// the identity of the image: it goes into the kernel command line, and the partition
// UUIDs are its two halves, as the Discoverable Partitions Specification asks.
//
// Nothing here depends on the clock, on randomness or on the order in which goroutines
// finish: UUIDs and the salt are derived from what the tree holds, so the same tree and
// timestamp give the same bytes.
//
// Content is read once. Each block is checked against the tree's digests, hashed for the
// verity tree and written while it is still in the processor's cache.
package seal

import (
	"runtime"

	"github.com/imgbuild/imgbuild/builder/progress"
)

// BlockSize is the size in bytes of an EROFS block, a verity data block and a verity hash
// block. It is the page size of every machine the images run on, so that one page fault
// is one block to verify.
const BlockSize = 4096

// Options are the inputs besides the tree.
type Options struct {
	// Timestamp is the modification time of every file, in seconds since the epoch.
	// It comes from SOURCE_DATE_EPOCH or the lock, never from the clock.
	Timestamp int64
	// Volume is the label of the file system, at most 16 bytes.
	Volume string
	// Workers is how many files are copied at once; 0 means one per processor.
	Workers int
	// Task, when not nil, is told how many bytes of the image are done.
	Task progress.Task
}

func (o Options) workers() int {
	if o.Workers > 0 {
		return o.Workers
	}
	return runtime.GOMAXPROCS(0)
}

// Sizes says how much room a sealed root takes.
type Sizes struct {
	// DataSize is the size of the file system in bytes, a multiple of BlockSize.
	DataSize int64 `json:"dataSize"`
	// HashSize is the size of verity superblock and hash tree in bytes, a multiple of BlockSize.
	HashSize int64 `json:"hashSize"`
}

// Root describes a root that has been written.
type Root struct {
	Sizes
	// Hash is the root hash of the verity tree.
	Hash Digest `json:"hash"`
	// Salt was prepended to every hashed block.
	Salt Digest `json:"salt"`
	// UUID is that of the file system, VerityUUID that of the verity superblock.
	UUID       UUID `json:"uuid"`
	VerityUUID UUID `json:"verityUUID"`
	// DataPartition and HashPartition are the partition UUIDs: the first and the last
	// 128 bits of the root hash.
	DataPartition UUID `json:"dataPartition"`
	HashPartition UUID `json:"hashPartition"`
	// Files counts inodes, Shared the bytes saved because files had equal content.
	Files  int   `json:"files"`
	Shared int64 `json:"shared"`
}

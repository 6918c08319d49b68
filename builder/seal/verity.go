// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"runtime"
	"sync"
)

// The hash area is what cryptsetup's docs/on-disk-format-verity describes: a 512-byte
// superblock in a block of its own, then the levels of the tree, the root's level first.
// Format 1: each hash is taken over salt and block, in this order.
const (
	verityMagic     = "verity\x00\x00"
	veritySuperSize = 512
	hashesPerBlock  = BlockSize / sha256.Size
)

// levels returns the number of hash blocks on each level, the one over the data first.
// A single data block has no levels: its hash is the root hash.
func levels(dataBlocks uint32) []uint32 {
	var out []uint32
	for n := dataBlocks; n > 1; {
		n = (n + hashesPerBlock - 1) / hashesPerBlock
		out = append(out, n)
	}
	return out
}

// hashAreaSize returns the bytes taken by superblock and tree.
func hashAreaSize(dataBlocks uint32) int64 {
	total := int64(1)
	for _, n := range levels(dataBlocks) {
		total += int64(n)
	}
	return total * BlockSize
}

// leaves collects the hash of every data block, in any order and from any goroutine.
type leaves struct {
	blocks uint32
	salt   Digest
	sums   []byte // padded to whole hash blocks
}

func newLeaves(blocks uint32, salt Digest) *leaves {
	padded := (int64(blocks) + hashesPerBlock - 1) / hashesPerBlock * BlockSize
	return &leaves{blocks: blocks, salt: salt, sums: make([]byte, padded)}
}

// hash records the hashes of whole blocks, the first of which is block number first.
// Calls for different blocks may run at the same time.
func (l *leaves) hash(first uint32, data []byte) {
	hashBlocks(l.sums[int64(first)*sha256.Size:], data, l.salt)
}

// hashAll is hash, spread over the processors.
func (l *leaves) hashAll(first uint32, data []byte) {
	parallelHash(l.sums[int64(first)*sha256.Size:], data, l.salt)
}

// hashBlocks writes the salted hash of each block of data to out.
func hashBlocks(out, data []byte, salt Digest) {
	h := sha256.New()
	for k := 0; k < len(data); k += BlockSize {
		h.Reset()
		h.Write(salt[:])
		h.Write(data[k : k+BlockSize])
		at := k / BlockSize * sha256.Size
		h.Sum(out[at:at:len(out)])
	}
}

func parallelHash(out, data []byte, salt Digest) {
	const share = 256 * BlockSize
	var wg sync.WaitGroup
	limit := make(chan struct{}, runtime.GOMAXPROCS(0))
	for k := 0; k < len(data); k += share {
		limit <- struct{}{}
		wg.Go(func() {
			hashBlocks(out[k/BlockSize*sha256.Size:], data[k:min(k+share, len(data))], salt)
			<-limit
		})
	}
	wg.Wait()
}

// write writes superblock and tree and returns the root hash.
func (l *leaves) write(w io.WriterAt, uuid UUID) (Digest, error) {
	sums := levels(l.blocks)
	level := l.sums // the hashes on the current level, padded to blocks
	at := hashAreaSize(l.blocks)
	for _, n := range sums {
		at -= int64(n) * BlockSize
		if _, err := w.WriteAt(level, at); err != nil {
			return Digest{}, err
		}
		above := make([]byte, (int64(n)+hashesPerBlock-1)/hashesPerBlock*BlockSize)
		parallelHash(above, level, l.salt)
		level = above
	}
	block := make([]byte, BlockSize)
	copy(block, encodeVeritySuper(l.blocks, l.salt, uuid))
	if _, err := w.WriteAt(block, 0); err != nil {
		return Digest{}, err
	}
	return Digest(level[:sha256.Size]), nil
}

func encodeVeritySuper(dataBlocks uint32, salt Digest, uuid UUID) []byte {
	b := make([]byte, veritySuperSize)
	le := binary.LittleEndian
	copy(b[0:], verityMagic)
	le.PutUint32(b[8:], 1)  // version of the superblock
	le.PutUint32(b[12:], 1) // hash format
	copy(b[16:], uuid[:])
	copy(b[32:64], "sha256")
	le.PutUint32(b[64:], BlockSize) // data block
	le.PutUint32(b[68:], BlockSize) // hash block
	le.PutUint64(b[72:], uint64(dataBlocks))
	le.PutUint16(b[80:], uint16(len(salt)))
	copy(b[88:], salt[:])
	return b
}

// HashSize returns how large a partition must be to hold superblock and hash tree of a
// root of dataSize bytes.
func HashSize(dataSize int64) int64 {
	return hashAreaSize(uint32((dataSize + BlockSize - 1) / BlockSize))
}

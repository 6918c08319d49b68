// SPDX-License-Identifier: Apache-2.0

package seal_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/containerd/go-dmverity/pkg/verity"

	"github.com/imgbuild/imgbuild/builder/progress"
	"github.com/imgbuild/imgbuild/builder/seal"
	"github.com/imgbuild/imgbuild/builder/seal/referee"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// check is our own verification.
func check(t testing.TB, data, hash *memory, root seal.Digest) error {
	t.Helper()
	super, err := seal.ReadVeritySuper(hash, int64(len(hash.b)))
	if err != nil {
		return err
	}
	return seal.Verify(t.Context(), data, hash, super, root, progress.Discard.Start("", 0))
}

func verify(t testing.TB, data, hash *memory, root seal.Root) {
	t.Helper()
	if err := check(t, data, hash, root.Hash); err != nil {
		t.Error(err)
	}
}

// ofBlocks returns a tree whose image has about that many blocks.
func ofBlocks(t *testing.T, n int) *tree.Tree {
	tr := tree.New()
	if n > 1 {
		put(t, tr, file("/f", noise(uint64(n), (n-1)*seal.BlockSize)))
	}
	return tr
}

// Sizes around the points where the tree grows by a block or a level.
func TestHashTreeShapes(t *testing.T) {
	for _, n := range []int{1, 2, 127, 128, 129, 128 * 128, 128*128 + 1} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			data, hash, root := sealed(t, ofBlocks(t, n), options)
			if got := int(root.DataSize / seal.BlockSize); got != n {
				t.Fatalf("%d blocks", got)
			}
			verify(t, data, hash, root)
			dataPath, hashPath := onDisk(t, data, hash)
			if err := verity.Verify(&verity.Params{}, dataPath, hashPath, root.Hash[:]); err != nil {
				t.Errorf("go-dmverity disagrees: %v", err)
			}
			referee.Must(t, "veritysetup", "verify", dataPath, hashPath, root.Hash.String())
		})
	}
}

func TestVeritysetupReadsOurSuperblock(t *testing.T) {
	data, hash, root := sealed(t, sample(t), options)
	_, hashPath := onDisk(t, data, hash)
	dump := referee.Must(t, "veritysetup", "dump", hashPath)
	for _, want := range []string{root.VerityUUID.String(), root.Salt.String(), fmt.Sprint(root.DataSize / seal.BlockSize), "sha256"} {
		if !strings.Contains(dump, want) {
			t.Errorf("no %s in:\n%s", want, dump)
		}
	}
}

// Every block of both parts is hit once; each time the damage must be found.
func TestEveryFlippedBitIsFound(t *testing.T) {
	tr := tree.New()
	for k := range 40 {
		put(t, tr, file(fmt.Sprint("/", k), noise(uint64(k), 200+k*700)))
	}
	put(t, tr, file("/large", noise(1, 600<<10)))
	data, hash, root := sealed(t, tr, options)
	for _, part := range []struct {
		name string
		m    *memory
		from int // bits of the superblock that no hash covers come before
	}{{"data", data, 0}, {"hash", hash, seal.BlockSize}} {
		for block := part.from; block < len(part.m.b); block += seal.BlockSize {
			at, bit := block+(block/seal.BlockSize*389)%seal.BlockSize, byte(1)<<(block/seal.BlockSize%8)
			part.m.b[at] ^= bit
			if err := check(t, data, hash, root.Hash); !errors.Is(err, seal.ErrCorrupt) {
				t.Errorf("%s: flipped bit at %d: error %v", part.name, at, err)
			}
			part.m.b[at] ^= bit
		}
	}
	verify(t, data, hash, root)
}

func TestVeritysetupFindsFlippedBits(t *testing.T) {
	data, hash, root := sealed(t, sample(t), options)
	dataPath, hashPath := onDisk(t, data, hash)
	referee.Must(t, "veritysetup", "verify", dataPath, hashPath, root.Hash.String())
	for k := range 12 { // spread over inodes, directories, content and the last byte
		at := (len(data.b) - 1) * k / 11
		data.b[at] ^= 0x10
		if err := os.WriteFile(dataPath, data.b, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := referee.Run(t, "veritysetup", "verify", dataPath, hashPath, root.Hash.String()); err == nil {
			t.Errorf("bit flipped at %d: verified\n%s", at, out)
		}
		data.b[at] ^= 0x10
	}
}

func TestWrongRootHash(t *testing.T) {
	data, hash, root := sealed(t, sample(t), options)
	root.Hash[31] ^= 1
	if err := check(t, data, hash, root.Hash); err == nil || !strings.Contains(err.Error(), root.Hash.String()) {
		t.Errorf("error %v, want one that names the root hash", err)
	}
}

func FuzzReadSuperblocks(f *testing.F) {
	data, hash, _ := sealed(f, tree.New(), options)
	f.Add(data.b, hash.b)
	f.Fuzz(func(t *testing.T, data, hash []byte) {
		if s, err := seal.ReadSuper(&memory{data}, int64(len(data))); err == nil && s.DataSize > int64(len(data)) {
			t.Errorf("%d bytes in %d", s.DataSize, len(data))
		}
		s, err := seal.ReadVeritySuper(&memory{hash}, int64(len(hash)))
		if err != nil {
			return
		}
		if s.HashSize > int64(len(hash)) {
			t.Errorf("%d bytes in %d", s.HashSize, len(hash))
		}
		_ = seal.Verify(t.Context(), &memory{data}, &memory{hash}, s, seal.Digest{}, progress.Discard.Start("", 0))
	})
}

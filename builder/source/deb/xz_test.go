// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"os/exec"
	"testing"

	"github.com/ulikunitz/xz"
)

// blockFile is some text in a .xz file with blocks of the given size.
func blockFile(t testing.TB, size int, block int64) (plain, packed []byte) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	plain = make([]byte, size)
	for i := range plain {
		plain[i] = byte('a' + rnd.IntN(4))
	}
	var b bytes.Buffer
	w, err := xz.WriterConfig{DictCap: 1 << 16, BlockSize: block, CheckSum: xz.CRC64}.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return plain, b.Bytes()
}

func TestXZReader(t *testing.T) {
	for name, c := range map[string]struct {
		size   int
		block  int64
		blocks int // 0: not readable by blocks
	}{
		"many blocks": {100_000, 7_000, 15}, "two blocks": {10_000, 5_001, 2}, "one block": {10_000, 1 << 20, 0}, "empty": {0, 1000, 0},
	} {
		t.Run(name, func(t *testing.T) {
			plain, packed := blockFile(t, c.size, c.block)
			_, blocks, err := xzBlocks(bytes.NewReader(packed), int64(len(packed)))
			if len(blocks) != c.blocks || c.blocks == 0 && err != errNotBlocks || c.blocks > 0 && err != nil {
				t.Errorf("%d blocks, %v, want %d", len(blocks), err, c.blocks)
			}
			got, err := readXZ(packed)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("read %d bytes, %v, want %d", len(got), err, len(plain))
			}
		})
	}
}

func readXZ(packed []byte) ([]byte, error) {
	r, err := newXZReader(bytes.NewReader(packed), int64(len(packed)))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// Every byte of a .xz file is covered by a check or by structure, so no changed byte may
// yield other content without an error.
func TestXZReaderNoticesEveryChangedByte(t *testing.T) {
	plain, packed := blockFile(t, 3_000, 1_000)
	for i := range packed {
		bad := bytes.Clone(packed)
		bad[i] ^= 0x20
		if got, err := readXZ(bad); err == nil && !bytes.Equal(got, plain) {
			t.Errorf("byte %d changed: other content without an error", i)
		}
	}
	for cut := range len(packed) {
		if _, err := readXZ(packed[:cut]); err == nil {
			t.Errorf("cut to %d bytes: no error", cut)
		}
	}
}

func TestXZReaderCloseEarly(t *testing.T) {
	_, packed := blockFile(t, 100_000, 1_000)
	r, err := newXZReader(bytes.NewReader(packed), int64(len(packed)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 10)); err == nil {
		t.Error("reading goes on after Close")
	}
}

// xz itself writes files that dpkg-deb writes too: several blocks with sizes in the
// block headers.
func TestXZReaderAgainstXZ(t *testing.T) {
	program, err := exec.LookPath("xz")
	if err != nil {
		t.Skip("xz is not on this machine: ", err)
	}
	plain, _ := blockFile(t, 3_000_000, 1<<20)
	cmd := exec.Command(program, "-T2", "--block-size=1MiB", "-1", "-c")
	cmd.Stdin = bytes.NewReader(plain)
	packed, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if _, blocks, err := xzBlocks(bytes.NewReader(packed), int64(len(packed))); err != nil || len(blocks) != 3 {
		t.Errorf("%d blocks, %v, want 3", len(blocks), err)
	}
	if got, err := readXZ(packed); err != nil || sha256.Sum256(got) != sha256.Sum256(plain) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
}

func FuzzXZIndex(f *testing.F) {
	_, packed := blockFile(f, 3_000, 1_000)
	f.Add(packed)
	f.Fuzz(func(t *testing.T, data []byte) {
		_, blocks, err := xzBlocks(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		for _, b := range blocks {
			if b.offset < xzHeaderSize || b.offset+b.unpadded > int64(len(data)) {
				t.Errorf("block %+v in a file of %d bytes", b, len(data))
			}
		}
	})
}

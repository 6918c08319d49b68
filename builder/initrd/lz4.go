// SPDX-License-Identifier: Apache-2.0

package initrd

import (
	"encoding/binary"
	"io"
	"runtime"

	"github.com/pierrec/lz4/v4"
	"golang.org/x/sync/errgroup"
)

// The legacy frame of the LZ4 Frame Format Description, the only one the kernel's
// decompressor reads: a magic number, then blocks of at most 8 MiB, each after its
// compressed size.
const (
	lz4Magic     = 0x184C2102
	lz4BlockSize = 8 << 20
)

// compress writes data in LZ4's legacy frame. Blocks are independent of each other, so
// that all processors work on them and the result does not depend on how many there are.
func compress(w io.Writer, data []byte) error {
	count := (len(data) + lz4BlockSize - 1) / lz4BlockSize
	blocks := make([][]byte, count)
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range blocks {
		g.Go(func() error {
			src := data[i*lz4BlockSize : min((i+1)*lz4BlockSize, len(data))]
			dst := make([]byte, 4+lz4.CompressBlockBound(len(src)))
			c := lz4.CompressorHC{Level: lz4.Level9}
			n, err := c.CompressBlock(src, dst[4:])
			if err != nil {
				return err
			}
			binary.LittleEndian.PutUint32(dst, uint32(n))
			blocks[i] = dst[:4+n]
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := binary.Write(w, binary.LittleEndian, uint32(lz4Magic)); err != nil {
		return err
	}
	size := 4
	for _, b := range blocks {
		if _, err := w.Write(b); err != nil {
			return err
		}
		size += len(b)
	}
	// The frame has no end mark of its own. The boot stub appends archives to this one: the
	// kernel takes a block of size zero for the end, skips zeros, and expects the next
	// archive at a multiple of four.
	_, err := w.Write(make([]byte, 4+(4-size%4)%4))
	return err
}

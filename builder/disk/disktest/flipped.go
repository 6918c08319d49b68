// SPDX-License-Identifier: Apache-2.0

// Package disktest damages images for tests of what reads them.
package disktest

import "io"

// Flipped is an image of which some bits are others than were written.
type Flipped struct {
	io.ReaderAt
	// At is where the first byte of Bits lies in the image.
	At int64
	// Bits are set where a bit is flipped.
	Bits []byte
}

// ReadAt implements io.ReaderAt.
func (f Flipped) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.ReaderAt.ReadAt(b, off)
	for k, bits := range f.Bits {
		if at := f.At + int64(k) - off; at >= 0 && at < int64(n) {
			b[at] ^= bits
		}
	}
	return n, err
}

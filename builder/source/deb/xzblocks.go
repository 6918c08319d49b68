// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// The parts of the .xz format (version 1.2.1, sections 2 and 4) that are needed to find
// the blocks of a file without decompressing it.
const (
	xzHeaderSize = 12 // stream header and stream footer
	// maxBlock bounds what is held in memory per block; larger files are read serially.
	maxBlock = 64 << 20
)

// errNotBlocks says that a file has to be read from front to back: it has one block,
// several streams, padding, or blocks too large to hold.
var errNotBlocks = errors.New("cannot be read by blocks")

// xzBlock is one independently compressed part of a .xz file.
type xzBlock struct {
	offset       int64 // of the block header in the file
	unpadded     int64 // bytes of header, data and check
	uncompressed int64
}

// xzBlocks lists the blocks of a .xz file of one stream from the index at its end.
func xzBlocks(r io.ReaderAt, size int64) (header []byte, blocks []xzBlock, err error) {
	header, footer := make([]byte, xzHeaderSize), make([]byte, xzHeaderSize)
	if size < 2*xzHeaderSize {
		return nil, nil, errNotBlocks
	}
	if _, err := r.ReadAt(header, 0); err != nil {
		return nil, nil, err
	}
	if _, err := r.ReadAt(footer, size-xzHeaderSize); err != nil {
		return nil, nil, err
	}
	if string(header[:6]) != "\xfd7zXZ\x00" || string(footer[10:]) != "YZ" || crc32.ChecksumIEEE(footer[4:10]) != binary.LittleEndian.Uint32(footer) {
		return nil, nil, errNotBlocks
	}
	indexSize := (int64(binary.LittleEndian.Uint32(footer[4:])) + 1) * 4
	if indexSize > size-2*xzHeaderSize || indexSize > 1<<20 {
		return nil, nil, errNotBlocks
	}
	index := make([]byte, indexSize)
	if _, err := r.ReadAt(index, size-xzHeaderSize-indexSize); err != nil {
		return nil, nil, err
	}
	blocks, err = parseXZIndex(index)
	if err != nil {
		return nil, nil, err
	}
	end := int64(xzHeaderSize)
	for _, b := range blocks {
		end = b.offset + (b.unpadded+3)&^3
	}
	if end != size-xzHeaderSize-indexSize {
		return nil, nil, errNotBlocks
	}
	return header, blocks, nil
}

// parseXZIndex reads an index whose blocks start right after the stream header.
func parseXZIndex(index []byte) ([]xzBlock, error) {
	body := index[:len(index)-4]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(index[len(index)-4:]) {
		return nil, fmt.Errorf("xz: the index does not match its checksum")
	}
	if len(body) == 0 || body[0] != 0 {
		return nil, errNotBlocks
	}
	body = body[1:]
	next := func() int64 {
		v, n := binary.Uvarint(body)
		if n <= 0 || v > 1<<62 {
			body = nil
			return -1
		}
		body = body[n:]
		return int64(v)
	}
	count := next()
	if count < 2 || count > int64(len(body)) {
		return nil, errNotBlocks
	}
	blocks := make([]xzBlock, count)
	offset := int64(xzHeaderSize)
	for i := range blocks {
		b := xzBlock{offset: offset, unpadded: next(), uncompressed: next()}
		if b.unpadded <= 0 || b.uncompressed <= 0 || b.unpadded > maxBlock || b.uncompressed > maxBlock {
			return nil, errNotBlocks
		}
		blocks[i], offset = b, offset+(b.unpadded+3)&^3
	}
	return blocks, nil
}

// stream returns a .xz file that holds b alone: the header of the original, the block,
// and an index and a footer made for it. Any decoder reads it, checks included.
func (b xzBlock) stream(r io.ReaderAt, header []byte) ([]byte, error) {
	padded := (b.unpadded + 3) &^ 3
	out := make([]byte, xzHeaderSize+padded, xzHeaderSize+padded+64)
	copy(out, header)
	if _, err := r.ReadAt(out[xzHeaderSize:], b.offset); err != nil {
		return nil, noEOF(err)
	}
	index := []byte{0}
	for _, v := range []uint64{1, uint64(b.unpadded), uint64(b.uncompressed)} {
		index = binary.AppendUvarint(index, v)
	}
	for len(index)%4 != 0 {
		index = append(index, 0)
	}
	index = binary.LittleEndian.AppendUint32(index, crc32.ChecksumIEEE(index))
	tail := binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1))
	tail = append(tail, header[6], header[7]) // stream flags
	footer := binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(tail))
	footer = append(append(footer, tail...), "YZ"...)
	return append(append(out, index...), footer...), nil
}

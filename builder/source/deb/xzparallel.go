// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"bytes"
	"fmt"
	"io"
	"runtime"

	"github.com/mikelolasagasti/xz"
)

// newXZReader decompresses a .xz file of the given size. A file in several blocks, as
// dpkg-deb writes large packages with threads, is decompressed on several processors.
func newXZReader(r io.ReaderAt, size int64) (io.ReadCloser, error) {
	header, blocks, err := xzBlocks(r, size)
	if err == errNotBlocks {
		x, err := xz.NewReader(io.NewSectionReader(r, 0, size), 0)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(x), nil
	}
	if err != nil {
		return nil, err
	}
	return startParallel(r, header, blocks), nil
}

// parallelReader hands out decompressed blocks in order. At most one block per processor
// is in the works or waiting, which bounds memory to a few blocks of some 24 MiB.
type parallelReader struct {
	results []chan blockResult
	free    chan struct{}
	stop    chan struct{}
	current []byte
	err     error
}

type blockResult struct {
	data []byte
	err  error
}

func startParallel(r io.ReaderAt, header []byte, blocks []xzBlock) *parallelReader {
	p := &parallelReader{results: make([]chan blockResult, len(blocks)), free: make(chan struct{}, runtime.GOMAXPROCS(0)), stop: make(chan struct{})}
	for i := range p.results {
		p.results[i] = make(chan blockResult, 1)
	}
	results := p.results
	go func() {
		for i, b := range blocks {
			select {
			case p.free <- struct{}{}:
			case <-p.stop:
				return
			}
			go func() {
				data, err := b.decompress(r, header)
				results[i] <- blockResult{data, err}
			}()
		}
	}()
	return p
}

func (b xzBlock) decompress(r io.ReaderAt, header []byte) ([]byte, error) {
	stream, err := b.stream(r, header)
	if err != nil {
		return nil, err
	}
	x, err := xz.NewReader(bytes.NewReader(stream), 0)
	if err != nil {
		return nil, err
	}
	out := make([]byte, b.uncompressed)
	if _, err := io.ReadFull(x, out); err != nil {
		return nil, fmt.Errorf("xz: block at offset %d: %w", b.offset, noEOF(err))
	}
	// Reading past the end makes the decoder compare check and index.
	if n, err := x.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return nil, fmt.Errorf("xz: block at offset %d: does not end where the index says (%v)", b.offset, err)
	}
	return out, nil
}

func (p *parallelReader) Read(buf []byte) (int, error) {
	for len(p.current) == 0 {
		if p.err != nil {
			return 0, p.err
		}
		if len(p.results) == 0 {
			return 0, io.EOF
		}
		res := <-p.results[0]
		p.results = p.results[1:]
		<-p.free
		p.current, p.err = res.data, res.err
	}
	n := copy(buf, p.current)
	p.current = p.current[n:]
	return n, nil
}

// Close stops work that nobody will read. Blocks in the works end by themselves.
func (p *parallelReader) Close() error {
	close(p.stop)
	p.err, p.results, p.current = io.ErrClosedPipe, nil, nil
	return nil
}

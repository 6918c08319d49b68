// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
)

// decompress returns the plain form of r by the suffix of its file name: "", ".gz",
// ".xz" or ".zst", which are all that dpkg writes today. Size is the compressed size.
func decompress(suffix string, r io.Reader, size int64) (io.ReadCloser, error) {
	switch suffix {
	case "":
		return io.NopCloser(r), nil
	case ".gz":
		return gzip.NewReader(bufio.NewReaderSize(r, 1<<16))
	case ".zst":
		z, err := zstd.NewReader(r)
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case ".xz":
		x, err := xz.NewReader(r, 0)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(x), nil
	}
	return nil, fmt.Errorf("compression %q is not one of .gz, .xz, .zst or none", suffix)
}

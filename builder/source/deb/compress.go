// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// decompress returns the plain form of r by the suffix of its file name: "", ".gz",
// ".xz" or ".zst", which are all that dpkg writes today.
func decompress(suffix string, r *io.SectionReader) (io.ReadCloser, error) {
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
		return newXZReader(r, r.Size())
	}
	return nil, fmt.Errorf("compression %q is not one of .gz, .xz, .zst or none", suffix)
}

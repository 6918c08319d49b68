// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"fmt"
	"hash"
	"io"
)

// verifier hashes what passes through it and refuses to end cleanly on a mismatch.
type verifier struct {
	r    io.Reader
	c    io.Closer
	sum  hash.Hash
	n    int64
	want Content
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.sum.Write(p[:n])
	v.n += int64(n)
	if err == io.EOF {
		if v.n != v.want.Size || [32]byte(v.sum.Sum(nil)) != v.want.SHA256 {
			return n, fmt.Errorf("%s at offset %d: %w (read %d of %d bytes)", v.name(), v.want.Offset, ErrCorrupt, v.n, v.want.Size)
		}
	}
	return n, err
}

func (v *verifier) name() string {
	if v.want.File == "" {
		return "in-memory content"
	}
	return v.want.File
}

func (v *verifier) Close() error { return v.c.Close() }

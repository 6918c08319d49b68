// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
)

// Digest is a SHA-256 as 64 lower-case hexadecimal digits.
type Digest string

// ParseDigest checks that text is a digest in its one canonical form.
func ParseDigest(text string) (Digest, error) {
	if !isHex(text) {
		return "", fmt.Errorf("digest %q: want 64 lower-case hexadecimal digits (SHA-256)", text)
	}
	return Digest(text), nil
}

// DigestOf returns the digest of data.
func DigestOf(data []byte) Digest {
	sum := sha256.Sum256(data)
	return Digest(hex.EncodeToString(sum[:]))
}

// Sum returns the digest as bytes, the form package tree records. An invalid digest
// yields zeros, which match no content.
func (d Digest) Sum() (sum [sha256.Size]byte) {
	if isHex(string(d)) {
		_, _ = hex.Decode(sum[:], []byte(d))
	}
	return sum
}

// Key names a derived result: the SHA-256 over everything that determines it, as 64
// lower-case hexadecimal digits.
type Key string

// NewKey returns the key of a result of some kind ("deb-index", "component"). Version is
// raised whenever the code that derives it changes its output. Every part enters the hash
// with its length, so no two different lists of inputs share an encoding.
func NewKey(kind string, version int, inputs ...string) Key {
	h := sha256.New()
	part := func(s string) {
		io.WriteString(h, strconv.Itoa(len(s))+":"+s+",")
	}
	part("imgbuild derived result")
	part(kind)
	part(strconv.Itoa(version))
	for _, in := range inputs {
		part(in)
	}
	return Key(hex.EncodeToString(h.Sum(nil)))
}

func isHex(s string) bool {
	if len(s) != 2*sha256.Size {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// HashFile returns digest and size of the file at path. It stops early when ctx ends.
func HashFile(ctx context.Context, path string) (Digest, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	return hashReader(ctx, f)
}

// buffers saves the allocation of a large buffer for each of many small files.
var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

func hashReader(ctx context.Context, r io.Reader) (Digest, int64, error) {
	h := sha256.New()
	pooled := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)
	buf := *pooled
	var total int64
	for {
		if err := ctx.Err(); err != nil {
			return "", total, err
		}
		n, err := r.Read(buf)
		h.Write(buf[:n])
		total += int64(n)
		if err == io.EOF {
			return Digest(hex.EncodeToString(h.Sum(nil))), total, nil
		}
		if err != nil {
			return "", total, err
		}
	}
}

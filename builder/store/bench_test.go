// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkWarm is what a warm build pays for the store: every blob and entry looked up
// and trusted by its stamps, nothing read.
func BenchmarkWarm(b *testing.B) {
	s := open(b)
	var digests []Digest
	for i := range 600 {
		d, _, err := s.PutBytes(b.Context(), fmt.Appendf(nil, "package %d", i))
		if err != nil {
			b.Fatal(err)
		}
		digests = append(digests, d)
	}
	key := NewKey("bench", 1)
	_, err := s.Derive(b.Context(), key, func(_ context.Context, dir string) error {
		for i := range 3000 {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), fmt.Append(nil, i), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for _, d := range digests {
			if _, err := s.Blob(d); err != nil {
				b.Fatal(err)
			}
		}
		if _, ok := s.Lookup(key); !ok {
			b.Fatal("lost")
		}
	}
}

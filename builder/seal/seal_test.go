// SPDX-License-Identifier: Apache-2.0

package seal_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/imgbuild/imgbuild/builder/seal"
)

// writeFiles seals a tree into two files and returns their paths.
func TestThin(t *testing.T) {
	tr := sample(t)
	dir := os.Getenv("SEAL_OUT")
	if dir == "" {
		dir = t.TempDir()
	}
	data, _ := os.Create(filepath.Join(dir, "data"))
	hash, _ := os.Create(filepath.Join(dir, "hash"))
	root, err := seal.WriteRoot(context.Background(), data, hash, tr, seal.Options{Timestamp: 1700000000, Volume: "root"})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v %s", root, root.Hash)
	data.Truncate(root.DataSize)
	_ = bytes.MinRead
	_ = io.EOF
}

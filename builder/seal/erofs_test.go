// SPDX-License-Identifier: Apache-2.0

package seal_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/seal/referee"
	"github.com/imgbuild/imgbuild/builder/tree"
)

func TestFsckErofsAgrees(t *testing.T) {
	for seed := range uint64(4) {
		tr := sample(t)
		if seed > 0 {
			tr = randomTree(t, seed, 400)
		}
		data, hash, root := sealed(t, tr, options)
		path, _ := onDisk(t, data, hash)
		referee.Must(t, "fsck.erofs", path)
		dump := referee.Must(t, "dump.erofs", path)
		for _, want := range []string{root.UUID.String(), fmt.Sprintf("%d\n", root.Files), "sb_csum"} {
			if !strings.Contains(dump, want) {
				t.Errorf("no %q in:\n%s", want, dump)
			}
		}
	}
}

// The files that erofs-utils takes out of the image have our content and modes.
func TestExtractedFiles(t *testing.T) {
	tr := sample(t)
	tr.Remove("/dev") // devices need privileges to extract
	data, hash, _ := sealed(t, tr, options)
	path, _ := onDisk(t, data, hash)
	out := filepath.Join(t.TempDir(), "out")
	referee.Must(t, "fsck.erofs", "--extract="+out, "--no-preserve-owner", "--preserve-perms", path)
	for _, n := range tr.Nodes() {
		p := filepath.Join(out, n.Path)
		info, err := os.Lstat(p)
		if err != nil {
			t.Error(err)
			continue
		}
		switch n.Kind {
		case tree.Regular:
			got, err := os.ReadFile(p)
			want, _ := n.Content.ReadAll()
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: other content: %v", n.Path, err)
			}
			if info.Mode().Perm() != fs.FileMode(n.Mode&0o777) {
				t.Errorf("%s: mode %v, want %o", n.Path, info.Mode(), n.Mode)
			}
		case tree.Symlink:
			if got, err := os.Readlink(p); err != nil || got != n.Target {
				t.Errorf("%s: leads to %q: %v", n.Path, got, err)
			}
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package kubeadm_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
)

func TestWriteFiles(t *testing.T) {
	old := syscall.Umask(0o077) // must not matter
	defer syscall.Umask(old)
	root := t.TempDir()
	f := kubeadm.File{Path: kubeadm.ManifestsDir + "/a.yaml", Mode: 0o600, Data: []byte("secret one")}
	g := kubeadm.File{Path: kubeadm.PKIDir + "/etcd/a.crt", Mode: 0o644, Data: []byte("one")}
	check := func(want int, files ...kubeadm.File) {
		t.Helper()
		changed, err := kubeadm.WriteFiles(root, files...)
		if err != nil || len(changed) != want {
			t.Fatalf("changed %v, want %d of them (%v)", changed, want, err)
		}
	}
	check(2, f, g)
	check(0, f, g)
	for path, mode := range map[string]fs.FileMode{f.Path: 0o600, g.Path: 0o644, kubeadm.ManifestsDir: 0o700, kubeadm.PKIDir + "/etcd": 0o755, kubeadm.Dir: 0o755} {
		st, err := os.Stat(filepath.Join(root, path))
		if err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, want %04o (%v)", path, st.Mode(), mode, err)
		}
	}
	if err := os.Chmod(filepath.Join(root, f.Path), 0o644); err != nil {
		t.Fatal(err)
	}
	check(1, f)
	// What a power cut left beside the file is used up, not kept.
	if err := os.WriteFile(filepath.Join(root, kubeadm.ManifestsDir, ".a.yaml.new"), []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	f.Data = []byte("secret two")
	check(1, f)
	left, err := os.ReadDir(filepath.Join(root, kubeadm.ManifestsDir))
	if err != nil || len(left) != 1 {
		t.Errorf("the directory holds %v (%v)", left, err)
	}
	if st, err := os.Stat(filepath.Join(root, f.Path)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("after a left-over: %v %v", st, err)
	}
}

func TestFileNeverShowsContent(t *testing.T) {
	f := kubeadm.File{Path: "/x", Mode: 0o600, Data: []byte("hunter2")}
	for _, verb := range []string{"%v", "%+v", "%s", "%#v", "%q"} {
		if s := fmt.Sprintf(verb, f); strings.Contains(s, "hunter2") || strings.Contains(s, "104") {
			t.Errorf("%s shows %s", verb, s)
		}
	}
}

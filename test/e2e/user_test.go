// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// nobody is the conventional unprivileged user and group.
const nobody = 65534

// TestOrdinaryUser builds the image as user 65534 with a fresh home directory and expects the
// same bytes. The store is a copy, so that hours of compiling are not repeated; what depends on
// privileges (unpacking, composing, sealing, writing the disk) is done again.
func TestOrdinaryUser(t *testing.T) {
	e := need(t)
	if os.Geteuid() != 0 {
		t.Skip("this process is an ordinary user already: every other test proves the same; switching to another user takes root")
	}
	home, err := os.MkdirTemp("", "imgbuild-home-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	cache := filepath.Join(home, ".cache/imgbuild")
	store := os.Getenv("XDG_CACHE_HOME")
	if store == "" {
		userHome, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		store = filepath.Join(userHome, ".cache")
	}
	copyTree(t, filepath.Join(store, "imgbuild"), cache)
	// The checkout may lie where others cannot look.
	source := filepath.Join(home, "source")
	for _, dir := range []string{"profiles", "assets", "firstboot", "builder", "go.mod", "go.sum"} {
		copyTree(t, filepath.Join(e.root, dir), filepath.Join(source, dir))
	}
	program := filepath.Join(home, "imgbuild")
	copyTree(t, e.imgbuild, program)
	if err := chownAll(home); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(home, "image.raw")
	cmd := exec.Command(program, "--source", source, "--progress", "plain", "--offline", "--profile", "controlplane", "--output", image)
	cmd.Dir = home
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + home}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody, NoSetGroups: true}, Setpgid: true}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	if got, want := digest(t, image), digest(t, e.image); got != want {
		t.Errorf("user %d built %s, the image here is %s", nobody, got, want)
	}
}

func digest(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// copyTree copies files, directories and symbolic links with their modes.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		info, err := d.Info()
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return os.Mkdir(target, info.Mode().Perm()|0o700)
		case d.Type() == fs.ModeSymlink:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		case d.Type().IsRegular():
			return copyRegular(path, target, info)
		}
		return nil // sockets and locks of another process
	})
	if err != nil {
		t.Fatal(err)
	}
}

// copyRegular keeps mode and times; the store trusts its entries by them.
func copyRegular(from, to string, info fs.FileInfo) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm()|0o200)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	if err := os.Chmod(to, info.Mode().Perm()); err != nil {
		return err
	}
	return os.Chtimes(to, info.ModTime(), info.ModTime())
}

func chownAll(root string) error {
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, nobody, nobody)
	})
}

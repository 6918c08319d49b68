// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/erofs/go-erofs"

	"github.com/imgbuild/imgbuild/builder/disk"
	"github.com/imgbuild/imgbuild/builder/inspect"
	"github.com/imgbuild/imgbuild/builder/vm"
)

// TestFlippedSuperblock changes a bit that every mount reads: the machine must not start.
func TestFlippedSuperblock(t *testing.T) {
	e := need(t)
	image, root := damaged(t, e)
	flip(t, image, root.Offset+1024+12) // a field of the superblock, which EROFS keeps at 1024
	o := e.options(t)
	o.Spec.Image = image
	var verity, started = make(chan string, 1), make(chan string, 1)
	o.Lines = func(l vm.Line) {
		switch {
		case corrupt.MatchString(l.Text):
			offer(verity, l.Text)
		case strings.HasPrefix(l.Text, "imgbuild: start "):
			offer(started, l.Text)
		}
	}
	g := e.start(t, o)
	var seen string
	select {
	case seen = <-verity:
		t.Log(seen)
	case l := <-started:
		t.Fatalf("the machine started from a damaged root: %s", l)
	case <-time.After(bootTimeout):
		t.Fatalf("neither started nor refused:\n%v", g.node.Machine.Failure(errors.New("timeout")))
	}
	// It must also stay refused.
	select {
	case l := <-started:
		t.Errorf("after %q the machine started all the same: %s", seen, l)
	case <-g.node.Machine.Exited():
	case <-time.After(20 * time.Second):
	}
}

// TestFlippedFile changes one bit of a file that starting does not need: the node comes up and
// reading the file fails.
func TestFlippedFile(t *testing.T) {
	e := needLong(t)
	image, root := damaged(t, e)
	path, offset := victim(t, image, root)
	flip(t, image, offset)
	o := e.options(t)
	o.Spec.Image = image
	g, _ := e.boot(t, o)
	g.startProbe(t)
	for range 3 {
		out, err := g.probeCommand("cat", "/"+path)
		if err == nil {
			t.Fatalf("reading the damaged /%s succeeded (%d bytes)", path, len(out))
		}
		if !strings.Contains(err.Error(), "input/output error") {
			t.Errorf("reading /%s: %v", path, err)
		}
	}
}

// corrupt is how dm-verity and the tools above it speak of a block that does not verify.
var corrupt = regexp.MustCompile(`(?i)verity.*corrupt|this machine cannot start|Kernel panic`)

func offer(c chan string, s string) {
	select {
	case c <- s:
	default:
	}
}

// damaged returns a copy of the image to damage, and its first root partition.
func damaged(t *testing.T, e env) (string, disk.Partition) {
	t.Helper()
	to := filepath.Join(t.TempDir(), "damaged.raw")
	copySparse(t, e.image, to)
	im, err := inspect.File(t.Context(), to, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range im.Partitions {
		if p.Slot == disk.RootA {
			return to, p
		}
	}
	t.Fatalf("no root partition in %+v", im.Partitions)
	return "", disk.Partition{}
}

func flip(t *testing.T, image string, offset int64) {
	t.Helper()
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, offset); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, offset); err != nil {
		t.Fatal(err)
	}
}

// victim finds a kernel module that a virtual machine does not load, and the offset in the
// image of a byte in its middle.
func victim(t *testing.T, image string, root disk.Partition) (string, int64) {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	part := io.NewSectionReader(f, root.Offset, root.Size)
	fsys, err := erofs.Open(part)
	if err != nil {
		t.Fatal(err)
	}
	var path string
	err = fs.WalkDir(fsys, "usr/lib/modules", func(p string, d fs.DirEntry, err error) error {
		if err != nil || path != "" {
			return err
		}
		if info, err := d.Info(); err == nil && d.Type().IsRegular() && strings.Contains(p, "/nvme/") && info.Size() > 20<<10 {
			path = p
			return fs.SkipAll
		}
		return nil
	})
	if err != nil || path == "" {
		t.Fatalf("no module to damage: %v", err)
	}
	content, err := fs.ReadFile(fsys, path)
	if err != nil {
		t.Fatal(err)
	}
	const block = 4096
	want := content[2*block : 3*block]
	buf := make([]byte, block)
	for at := int64(0); at < root.Size; at += block {
		if _, err := part.ReadAt(buf, at); err != nil {
			break
		}
		if bytes.Equal(buf, want) {
			return path, root.Offset + at + block/2
		}
	}
	t.Fatalf("the content of %s is not stored in whole blocks", path)
	return "", 0
}

// copySparse copies what is not zero.
func copySparse(t *testing.T, from, to string) {
	t.Helper()
	src, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	buf, zero := make([]byte, 1<<20), make([]byte, 1<<20)
	var at int64
	for {
		n, err := io.ReadFull(src, buf)
		if n > 0 && !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := dst.WriteAt(buf[:n], at); err != nil {
				t.Fatal(err)
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := dst.Truncate(at); err != nil {
		t.Fatal(err)
	}
}

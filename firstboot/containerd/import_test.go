// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/baseimage"
	"github.com/imgbuild/imgbuild/firstboot/containerd/containerdtest"
)

// archive writes a base image whose pause program is size bytes long.
func archive(t testing.TB, size int) string {
	t.Helper()
	pause := make([]byte, size)
	copy(pause, "\x7fELF")
	for i := 4; i < size; i++ {
		pause[i] = byte(i * 7)
	}
	data, err := baseimage.Build(pause, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "base-image.tar")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func importOnce(t *testing.T, socket, file string) error {
	t.Helper()
	l, err := OpenLayout(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return c.Import(ctx, l)
}

// TestName gives an image that is stored another name, and one that is not there none.
func TestName(t *testing.T) {
	socket, server := containerdtest.New(t)
	if err := importOnce(t, socket, archive(t, 1<<10)); err != nil {
		t.Fatal(err)
	}
	c, err := Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	other := baseimage.At("v1.36.3+x")
	for range 2 { // the second time it is there
		if err := c.Name(t.Context(), baseimage.Ref, other); err != nil {
			t.Fatal(err)
		}
	}
	have, named := server.Images[baseimage.Ref], server.Images["imgbuild.io/base:v1.36.3_x"]
	if named == nil || named.Target.Digest != have.Target.Digest || named.Labels[pinnedLabel] != "pinned" {
		t.Errorf("%v, the image is %v", named, have)
	}
	if err := c.Name(t.Context(), "imgbuild.io/none:1", other); err == nil {
		t.Error("an image that is not there has got a name")
	}
}

func TestImport(t *testing.T) {
	socket, server := containerdtest.New(t)
	file := archive(t, 3<<20) // more than two messages
	for range 2 {             // the second time everything is there
		if err := importOnce(t, socket, file); err != nil {
			t.Fatal(err)
		}
	}
	img := server.Images[baseimage.Ref]
	if img == nil {
		t.Fatalf("no image %s, have %v", baseimage.Ref, server.Images)
	}
	if img.Labels["io.cri-containerd.pinned"] != "pinned" {
		t.Errorf("the image is not pinned: %v", img.Labels)
	}
	if len(server.Blobs) != 3 || len(server.Leases) != 0 || len(server.Partial) != 0 {
		t.Errorf("%d blobs, %d leases, %d partial writes; want 3, 0, 0", len(server.Blobs), len(server.Leases), len(server.Partial))
	}
	// Without these labels garbage collection would take what the manifest refers to.
	refs := 0
	for k, v := range server.Labels[img.Target.GetDigest()] {
		if _, there := server.Blobs[v]; !there || !strings.HasPrefix(k, "containerd.io/gc.ref.content.") {
			t.Errorf("label %s=%s refers to nothing", k, v)
		}
		refs++
	}
	if refs != 2 {
		t.Errorf("the manifest keeps %d blobs alive, want its configuration and its layer", refs)
	}
}

func TestImportContinuesAfterInterruption(t *testing.T) {
	socket, server := containerdtest.New(t)
	file := archive(t, 3<<20)
	server.FailWrites = 4
	failed := 0
	for i := 0; ; i++ {
		err := importOnce(t, socket, file)
		if err == nil {
			break
		}
		if failed++; i > 10 {
			t.Fatal(err)
		}
	}
	if failed != 4 {
		t.Errorf("%d imports failed, want 4", failed)
	}
	if server.Images[baseimage.Ref] == nil || len(server.Leases) != 0 || len(server.Partial) != 0 {
		t.Errorf("images %v, leases %v, %d partial writes", server.Images, server.Leases, len(server.Partial))
	}
}

func TestImportWaitsForContainerd(t *testing.T) {
	c, err := Dial(filepath.Join(t.TempDir(), "absent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { _, err := c.Has(ctx, "x"); result <- err }()
	select {
	case err := <-result:
		t.Fatalf("a call did not wait for the socket to appear: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	cancel()
	if err := <-result; err == nil {
		t.Error("a cancelled call succeeded")
	}
}

func TestOpenLayoutProblems(t *testing.T) {
	good, err := os.ReadFile(archive(t, 100))
	if err != nil {
		t.Fatal(err)
	}
	rewrite := func(edit func(h *tar.Header, data []byte) []byte) []byte {
		var buf bytes.Buffer
		r, w := tar.NewReader(bytes.NewReader(good)), tar.NewWriter(&buf)
		for {
			h, err := r.Next()
			if err != nil {
				break
			}
			var data bytes.Buffer
			_, _ = data.ReadFrom(r)
			out := edit(h, data.Bytes())
			if out == nil && h.Typeflag == tar.TypeReg {
				continue
			}
			h.Size = int64(len(out))
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			_, _ = w.Write(out)
		}
		w.Close()
		return buf.Bytes()
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":    {[]byte{}, "index.json is missing"},
		"no index": {rewrite(func(h *tar.Header, d []byte) []byte { return iff(h.Name != "index.json", d) }), "index.json is missing"},
		"no manifest": {rewrite(func(h *tar.Header, d []byte) []byte {
			return iff(!bytes.Contains(d, []byte(`"config"`)) || h.Name == "index.json", d)
		}), "is missing from the layout"},
		"changed manifest": {rewrite(func(h *tar.Header, d []byte) []byte {
			return bytes.Replace(d, []byte(`"layers"`), []byte(`"Layers"`), 1)
		}), "does not have the digest"},
		"no name": {rewrite(func(h *tar.Header, d []byte) []byte {
			d = bytes.ReplaceAll(d, []byte("io.containerd.image.name"), []byte("a"))
			return bytes.ReplaceAll(d, []byte("org.opencontainers.image.ref.name"), []byte("b"))
		}), "has no name"},
		"index of indexes": {rewrite(func(h *tar.Header, d []byte) []byte {
			if h.Name != "index.json" {
				return d
			}
			return bytes.Replace(d, []byte("image.manifest.v1"), []byte("image.index.v1"), 1)
		}), "only application/vnd.oci.image.manifest.v1+json"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "x.tar")
			if err := os.WriteFile(file, c.data, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := OpenLayout(file)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file) {
				t.Errorf("got %v, want the file and %q", err, c.want)
			}
		})
	}
}

func iff(ok bool, d []byte) []byte {
	if ok {
		return d
	}
	return nil
}

func FuzzOpenLayout(f *testing.F) {
	good, err := os.ReadFile(archive(f, 100))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("index.json"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(t.TempDir(), "x.tar")
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		l, err := OpenLayout(file)
		if err == nil && len(l.Images) == 0 {
			t.Error("a layout without images opened")
		}
	})
}

// TestImportIntoRealContainerd is the referee: the real program, its real CRI plugin.
func TestImportIntoRealContainerd(t *testing.T) {
	components := os.Getenv("IMGBUILD_TEST_COMPONENTS")
	if components == "" {
		t.Skip("IMGBUILD_TEST_COMPONENTS does not name a directory with containerd")
	}
	if os.Getuid() != 0 {
		t.Skip("containerd's CRI plugin runs as root only")
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "c.sock")
	config := fmt.Sprintf("version = 3\nroot = %q\nstate = %q\n[grpc]\n  address = %q\n", dir+"/root", dir+"/state", socket)
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(components, "containerd"), "--config", filepath.Join(dir, "config.toml"))
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}()
	file := archive(t, 3<<20)
	for range 2 {
		if err := importOnce(t, socket, file); err != nil {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("%v\n%s", err, text)
		}
	}
	c, err := Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if has, err := c.Has(ctx, baseimage.Ref); err != nil || !has {
		t.Errorf("has %v, %v", has, err)
	}
	if has, err := c.Has(ctx, "imgbuild.io/other:1"); err != nil || has {
		t.Errorf("another image: has %v, %v", has, err)
	}
}

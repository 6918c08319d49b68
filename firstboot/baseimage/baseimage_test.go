// SPDX-License-Identifier: Apache-2.0

package baseimage

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
)

var pause = []byte("\x7fELF and the rest of a program")

func build(t *testing.T) []byte {
	t.Helper()
	b, err := Build(pause, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDeterministic(t *testing.T) {
	if !bytes.Equal(build(t), build(t)) {
		t.Error("two builds differ")
	}
}

func TestRefusesWhatIsNoProgram(t *testing.T) {
	if _, err := Build([]byte("#!/bin/sh"), "amd64"); err == nil {
		t.Error("a script was accepted")
	}
}

// An independent implementation reads the layout and checks every digest.
func TestAnotherLibraryReadsIt(t *testing.T) {
	dir := t.TempDir()
	r := tar.NewReader(bytes.NewReader(build(t)))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		p := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(p, 0o755)
		} else {
			var data []byte
			if data, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(p, data, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	idx, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := idx.IndexManifest()
	if err != nil || len(m.Manifests) != 1 {
		t.Fatalf("index: %v %v", m, err)
	}
	if got := m.Manifests[0].Annotations[nameAnnotation]; got != Ref {
		t.Errorf("name %q", got)
	}
	img, err := idx.Image(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(cfg.Config.Entrypoint, []string{"/pause"}) || !slices.Contains(cfg.Config.Env, "PATH="+Path) || cfg.Architecture != "amd64" {
		t.Errorf("configuration %+v", cfg)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("layers: %v %v", layers, err)
	}
	diff, err := layers[0].DiffID()
	if err != nil || diff != cfg.RootFS.DiffIDs[0] {
		t.Errorf("diff id %s, configuration says %s (%v)", diff, cfg.RootFS.DiffIDs[0], err)
	}
	rc, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	checkLayer(t, rc)
}

func checkLayer(t *testing.T, layer io.Reader) {
	t.Helper()
	got := map[string]*tar.Header{}
	r := tar.NewReader(layer)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = h
		if h.Name == "pause" {
			if data, err := io.ReadAll(r); err != nil || !bytes.Equal(data, pause) {
				t.Errorf("pause holds %q (%v)", data, err)
			}
		}
		if h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != 0 {
			t.Errorf("%s: owner %d:%d, time %s", h.Name, h.Uid, h.Gid, h.ModTime)
		}
	}
	for link, target := range map[string]string{"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"} {
		if h := got[link]; h == nil || h.Linkname != target {
			t.Errorf("%s does not lead to %s", link, target)
		}
	}
	for name, mode := range map[string]int64{"usr/": 0o755, "tmp/": 0o1777, "etc/ssl/certs/": 0o755, "pause": 0o755, "etc/passwd": 0o644, "etc/protocols": 0o644} {
		if h := got[name]; h == nil || h.Mode != mode {
			t.Errorf("%s: %+v, want mode %o", name, h, mode)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package buildtest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/imgbuild/imgbuild/builder/lock"
)

// File is a file or, with a Link, a symbolic link of a package.
type File struct {
	Path, Content, Link string
	Mode                int64 // default 0644
}

// Package is a .deb and its pin.
type Package struct {
	Pin   lock.Package
	Bytes []byte
}

// Deb returns a binary package for amd64. Equal arguments give equal bytes.
func Deb(t testing.TB, name, version string, files ...File) Package {
	t.Helper()
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: nobody\nDescription: %s\n", name, version, name)
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, m := range []struct {
		name string
		data []byte
	}{
		{"debian-binary", []byte("2.0\n")},
		{"control.tar.zst", packed(t, []File{{Path: "/control", Content: control}})},
		{"data.tar.zst", packed(t, files)},
	} {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 0, 0, 0, "100644", len(m.data))
		b.Write(m.data)
		if len(m.data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	sum := sha256.Sum256(b.Bytes())
	return Package{Bytes: b.Bytes(), Pin: lock.Package{
		Name: name, Version: version, Architecture: "amd64", Archive: "debian", Suite: "trixie",
		Path: fmt.Sprintf("pool/main/%s/%s/%s_%s_amd64.deb", name[:1], name, name, version),
		Size: int64(b.Len()), SHA256: hex.EncodeToString(sum[:]), Source: name + " " + version,
	}}
}

// packed returns a compressed tar archive of files and the directories they are in.
func packed(t testing.TB, files []File) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	add := func(h *tar.Header, content string) {
		h.Name, h.Size = "."+h.Name, int64(len(content))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range directories(files) {
		add(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}, "")
	}
	for _, f := range files {
		switch {
		case f.Link != "":
			add(&tar.Header{Typeflag: tar.TypeSymlink, Name: f.Path, Linkname: f.Link, Mode: 0o777}, "")
		case f.Mode != 0:
			add(&tar.Header{Typeflag: tar.TypeReg, Name: f.Path, Mode: f.Mode}, f.Content)
		default:
			add(&tar.Header{Typeflag: tar.TypeReg, Name: f.Path, Mode: 0o644}, f.Content)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// directories returns the parents of all files, outermost first.
func directories(files []File) []string {
	seen := map[string]bool{}
	for _, f := range files {
		for d := path.Dir(f.Path); d != "/"; d = path.Dir(d) {
			seen[d] = true
		}
	}
	var out []string
	for d := range seen {
		out = append(out, d)
	}
	slices.SortFunc(out, strings.Compare)
	return out
}

// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// arFile writes an ar archive of name and content pairs.
func arFile(parts ...string) []byte {
	var b bytes.Buffer
	b.WriteString(arMagic)
	for i := 0; i < len(parts); i += 2 {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d%s", parts[i], 0, 0, 0, "100644", len(parts[i+1]), arHeaderEnd)
		b.WriteString(parts[i+1])
		if len(parts[i+1])%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// tarFile writes a tar archive; the content of regular files follows from their names.
func tarFile(t testing.TB, headers ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		h := *h
		content := ""
		if h.Typeflag == tar.TypeReg {
			content = "content of " + h.Name
			if h.Name == "./control" {
				content = "Package: sample\nVersion: 1.0-1\nArchitecture: all\nDescription: x\n y\n"
			}
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// packed compresses data in the way that suffix names.
func packed(t testing.TB, suffix string, data []byte) string {
	t.Helper()
	var b bytes.Buffer
	var err error
	switch suffix {
	case "":
		return string(data)
	case ".gz":
		w := gzip.NewWriter(&b)
		_, err = w.Write(data)
		w.Close()
	case ".zst":
		w, _ := zstd.NewWriter(&b)
		_, err = w.Write(data)
		w.Close()
	case ".xz":
		var w *xz.Writer
		if w, err = xz.NewWriter(&b); err == nil {
			_, err = w.Write(data)
			w.Close()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// sampleDeb is a package with one of every kind of entry.
func sampleDeb(t testing.TB, suffix string, entries ...*tar.Header) []byte {
	t.Helper()
	control := tarFile(t, dir("./"), file("./control", 0o644), file("./postinst", 0o755))
	if entries == nil {
		entries = sampleEntries()
	}
	return arFile("debian-binary", "2.0\n", "_extra", "x", "control.tar"+suffix, packed(t, suffix, control), "data.tar"+suffix, packed(t, suffix, tarFile(t, entries...)))
}

func sampleEntries() []*tar.Header {
	caps := file("./usr/bin/ping", 0o755)
	caps.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02"}
	owned := file("./usr/bin/wall", 0o2755)
	owned.Gid, owned.Gname = 5, "tty"
	return []*tar.Header{
		dir("./"), dir("./usr/"), dir("./usr/bin/"), caps, owned,
		{Typeflag: tar.TypeLink, Name: "./usr/bin/wall2", Linkname: "./usr/bin/wall"},
		{Typeflag: tar.TypeSymlink, Name: "./usr/bin/ping4", Linkname: "ping"},
		dir("./lib/"), dir("./lib/x/"), file("./lib/x/y", 0o644),
		{Typeflag: tar.TypeChar, Name: "./dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3},
		{Typeflag: tar.TypeFifo, Name: "./run/pipe", Mode: 0o600},
	}
}

func dir(name string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}
}

func file(name string, mode int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}
}

// SPDX-License-Identifier: Apache-2.0

package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/source/fetch"
	"github.com/imgbuild/imgbuild/builder/store"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// member is one entry of a made-up archive.
type member struct {
	name, data, link string
	kind             byte
}

func archive(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Linkname: m.link, Typeflag: m.kind, Mode: 0o600, Size: int64(len(m.data)), Uid: 1000}
		if m.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// project is a made-up project whose releases a local server offers.
type project struct {
	pins   *Pins
	mirror string
	served map[string][]byte // by path
}

func newProject(t *testing.T, tarball []byte, program []byte) *project {
	t.Helper()
	p := &project{served: map[string][]byte{
		"/m/releases.example/tool/v1.2/tool-amd64.tgz": tarball,
		"/m/dl.example/1.2/amd64/prog":                 program,
	}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := p.served[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(data)
	}))
	t.Cleanup(srv.Close)
	p.mirror = srv.URL + "/m"
	text := fmt.Sprintf(`version: 1
releases:
  - name: tool
    version: 1.2
    url: https://releases.example/tool/v{v}/tool-{a}.tgz
    archive: tar.gz
    sha256: {amd64: "%s"}
    files:
      - {from: "tool-{v}/tool", path: /usr/bin/}
      - {from: "tool-{v}/tool", path: "/usr/libexec/other"}
      - {from: plugin, path: /usr/lib/tool/plugin-1}
  - name: prog
    version: 1.2
    url: https://dl.example/{v}/{a}/prog
    sha256: {amd64: "%s"}
    files: [{path: /usr/bin/prog}]
`, store.DigestOf(tarball), store.DigestOf(program))
	var err error
	if p.pins, err = Decode("test.yaml", []byte(text)); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *project) releases() []*Release {
	var out []*Release
	for i := range p.pins.Releases {
		out = append(out, &p.pins.Releases[i])
	}
	return out
}

var quick = fetch.Options{Backoff: time.Millisecond, Attempts: 2}

func openStore(t *testing.T) *store.Store {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func good(t testing.TB) []byte {
	return archive(t,
		member{name: "tool-1.2/", kind: tar.TypeDir},
		member{name: "tool-1.2/README", data: "read me"},
		member{name: "tool-1.2/tool", data: "the tool"},
		member{name: "tool-1.2/alias", link: "tool", kind: tar.TypeSymlink},
		member{name: "./plugin", data: "the plugin"})
}

func TestFetchUnpackPlace(t *testing.T) {
	p, st := newProject(t, good(t), []byte("the program")), openStore(t)
	if err := Fetch(t.Context(), st, p.releases(), "amd64", p.mirror, quick); err != nil {
		t.Fatal(err)
	}
	tr := tree.New()
	for _, r := range p.releases() {
		e, err := r.Unpack(t.Context(), st, "amd64")
		if err != nil {
			t.Fatal(err)
		}
		if err := Place(tr, r.Name, e); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{
		"/usr/bin/tool": "the tool", "/usr/libexec/other": "the tool", "/usr/lib/tool/plugin-1": "the plugin", "/usr/bin/prog": "the program",
	}
	for _, n := range tr.Nodes() {
		if n.Kind != tree.Regular {
			continue
		}
		data, err := n.Content.ReadAll()
		if err != nil || string(data) != want[n.Path] {
			t.Errorf("%s holds %q, %v", n.Path, data, err)
		}
		if n.Mode != 0o755 || n.UID != 0 || n.GID != 0 || !strings.HasPrefix(n.Origin, "release:") {
			t.Errorf("%s: mode %o, owner %d:%d, origin %s", n.Path, n.Mode, n.UID, n.GID, n.Origin)
		}
		delete(want, n.Path)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	p.served = nil // warm: no network
	if err := Fetch(t.Context(), st, p.releases(), "amd64", p.mirror, fetch.Options{Offline: true}); err != nil {
		t.Error(err)
	}
}

func TestMismatchIsFatal(t *testing.T) {
	p, st := newProject(t, good(t), []byte("the program")), openStore(t)
	p.served["/m/dl.example/1.2/amd64/prog"] = []byte("thy program")
	err := Fetch(t.Context(), st, p.releases(), "amd64", p.mirror, quick)
	if fault.ClassOf(err) != fault.Digest || !strings.Contains(err.Error(), "prog 1.2 for amd64") {
		t.Errorf("got %v", err)
	}
	if _, err := p.releases()[1].Unpack(t.Context(), st, "amd64"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("unpacked what was refused: %v", err)
	}
}

func TestNoLongerServed(t *testing.T) {
	p := newProject(t, good(t), []byte("the program"))
	delete(p.served, "/m/dl.example/1.2/amd64/prog")
	err := Fetch(t.Context(), openStore(t), p.releases(), "amd64", p.mirror, quick)
	if fault.ClassOf(err) != fault.MissingPin {
		t.Errorf("got %v", err)
	}
}

func TestSilentlyDamagedArtefactIsNotUsed(t *testing.T) {
	p, st := newProject(t, good(t), []byte("the program")), openStore(t)
	if err := Fetch(t.Context(), st, p.releases(), "amd64", p.mirror, quick); err != nil {
		t.Fatal(err)
	}
	r := p.releases()[1]
	path, err := st.Blob(store.Digest(r.SHA256["amd64"]))
	if err != nil {
		t.Fatal(err)
	}
	// Damage between the store's check and the reading.
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("thy program"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.unpackTo(t.Context(), path, "amd64", t.TempDir()); !errors.Is(err, tree.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

func TestKeyCoversRules(t *testing.T) {
	p := newProject(t, good(t), []byte("x"))
	r := *p.releases()[0]
	before, _ := r.Key("amd64")
	r.Files = slices.Clone(r.Files)
	r.Files[0].Path = "/usr/sbin/"
	if after, _ := r.Key("amd64"); after == before {
		t.Error("another rule, the same key")
	}
}

func TestArchivesRefused(t *testing.T) {
	tool, plugin := member{name: "tool-1.2/tool", data: "t"}, member{name: "plugin", data: "p"}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"climbs out":        {archive(t, tool, plugin, member{name: "../../evil", data: "x"}), "leaves the archive"},
		"climbs out inside": {archive(t, tool, plugin, member{name: "a/../../evil", data: "x"}), "leaves the archive"},
		"absolute":          {archive(t, tool, plugin, member{name: "/etc/passwd", data: "x"}), "leaves the archive"},
		"link out":          {archive(t, tool, plugin, member{name: "a/l", link: "../../etc", kind: tar.TypeSymlink}), "outside the archive"},
		"absolute link":     {archive(t, tool, plugin, member{name: "l", link: "/etc/passwd", kind: tar.TypeSymlink}), "outside the archive"},
		"hard link out":     {archive(t, tool, plugin, member{name: "l", link: "../x", kind: tar.TypeLink}), "outside the archive"},
		"device":            {archive(t, tool, plugin, member{name: "d", kind: tar.TypeBlock}), "is of type"},
		"fifo":              {archive(t, tool, plugin, member{name: "d", kind: tar.TypeFifo}), "is of type"},
		"wanted is a link":  {archive(t, tool, member{name: "plugin", link: "tool-1.2/tool", kind: tar.TypeSymlink}), "not a regular file"},
		"wanted twice":      {archive(t, tool, plugin, plugin), "twice"},
		"wanted is missing": {archive(t, tool, member{name: "other"}), "does not have plugin; it has tool-1.2/tool, other"},
		"not gzip":          {[]byte("hello, this is no gzip file"), "gzip"},
		"truncated":         {good(t)[:len(good(t))-30], "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			p, st := newProject(t, c.data, []byte("x")), openStore(t)
			r := p.releases()[0]
			if err := Fetch(t.Context(), st, []*Release{r}, "amd64", p.mirror, quick); err != nil {
				t.Fatal(err)
			}
			_, err := r.Unpack(t.Context(), st, "amd64")
			if fault.ClassOf(err) != fault.Build || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
			key, _ := r.Key("amd64")
			if _, ok := st.Lookup(key); ok {
				t.Error("a refused archive left a result")
			}
		})
	}
}

// FuzzExtract: whatever an archive holds, only wanted members reach the writer, with the
// size announced, and each once.
func FuzzExtract(f *testing.F) {
	f.Add(good(f))
	f.Add(archive(f, member{name: "../x", data: "y"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		seen := map[string]bool{}
		err := extract(t.Context(), bytes.NewReader(data), []string{"plugin", "tool-1.2/tool"}, func(name string, size int64, r io.Reader) error {
			if seen[name] || name != "plugin" && name != "tool-1.2/tool" {
				t.Errorf("wrote %q", name)
			}
			seen[name] = true
			n, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			if err == nil && n != size && n < 1<<20 {
				t.Errorf("%d bytes of %d", n, size)
			}
			return err
		})
		if err == nil && len(seen) != 2 {
			t.Errorf("no error, but only %v", seen)
		}
	})
}

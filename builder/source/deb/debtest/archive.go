// SPDX-License-Identifier: Apache-2.0

// Package debtest makes small signed Debian archives for tests.
package debtest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ulikunitz/xz"
)

// Package is one package to publish. Fields are further lines of its control paragraph,
// such as "Depends: libc6"; Files maps paths to contents.
type Package struct {
	Name, Version string
	Fields        []string
	Files         map[string]string
}

// Archive is a directory with dists/ and pool/ for each of the two Debian archives:
// Dir/debian and Dir/debian-security.
type Archive struct {
	Dir     string
	Keyring openpgp.EntityList
	// Now is shortly after the time of the signatures.
	Now time.Time
}

// New publishes packages in the main suite of release "trixie" for amd64. The updates and
// security suites are there and empty.
func New(t testing.TB, packages ...Package) *Archive {
	t.Helper()
	now := time.Now().Truncate(time.Second)
	key, err := openpgp.NewEntity("archive", "", "archive@example.test", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return now.Add(-time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	a := &Archive{Dir: t.TempDir(), Keyring: openpgp.EntityList{key}, Now: now}
	var index strings.Builder
	for _, p := range packages {
		index.WriteString(a.pool(t, p))
	}
	a.suite(t, key, "debian", "trixie", index.String())
	a.suite(t, key, "debian", "trixie-updates", "")
	a.suite(t, key, "debian-security", "trixie-security", "")
	return a
}

// Mirror returns the URL of the main archive.
func (a *Archive) Mirror() string { return "file://" + a.Dir + "/debian" }

// pool writes the .deb of p and returns its paragraph of a Packages file.
func (a *Archive) pool(t testing.TB, p Package) string {
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\n", p.Name, p.Version)
	for _, f := range p.Fields {
		control += f + "\n"
	}
	data := Deb(t, control, p.Files)
	path := fmt.Sprintf("pool/main/%s/%s_%s_amd64.deb", p.Name[:1], p.Name, p.Version)
	write(t, filepath.Join(a.Dir, "debian", path), data)
	return fmt.Sprintf("%sFilename: %s\nSize: %d\nSHA256: %s\n\n", control, path, len(data), digest(data))
}

func (a *Archive) suite(t testing.TB, key *openpgp.Entity, archive, suite, index string) {
	dir := filepath.Join(a.Dir, archive, "dists", suite)
	packed := XZ(t, []byte(index))
	name := "main/binary-amd64/Packages.xz"
	write(t, filepath.Join(dir, filepath.Dir(name), "by-hash/SHA256", digest(packed)), packed)
	release := fmt.Sprintf("Codename: %s\nDate: %s\nAcquire-By-Hash: yes\nSHA256:\n %s %d %s\n",
		suite, a.Now.UTC().Format(time.RFC1123), digest(packed), len(packed), name)
	var b bytes.Buffer
	w, err := clearsign.Encode(&b, key.PrivateKey, &packet.Config{Time: func() time.Time { return a.Now }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(release)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "InRelease"), b.Bytes())
}

// Deb returns a binary package with the given control file and regular files.
func Deb(t testing.TB, control string, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	member := func(name string, data []byte) {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", len(data))
		b.Write(data)
		if len(data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	member("debian-binary", []byte("2.0\n"))
	member("control.tar.xz", XZ(t, archive(t, map[string]string{"control": control})))
	member("data.tar.xz", XZ(t, archive(t, files)))
	return b.Bytes()
}

func archive(t testing.TB, files map[string]string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: "./" + strings.TrimPrefix(name, "/"), Mode: 0o644, Size: int64(len(content))}
		if err := w.WriteHeader(h); err != nil {
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

// XZ returns data compressed as packages and kernel modules are.
func XZ(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.WriterConfig{DictCap: 1 << 16}.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(t testing.TB, name string, data []byte) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

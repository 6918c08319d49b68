// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/imgbuild/imgbuild/builder/fault"
)

var signedAt = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func newKey(t testing.TB, name string) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity(name, "", name+"@example.test", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return signedAt.AddDate(-1, 0, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func clearSign(t testing.TB, text string, keys ...*openpgp.Entity) []byte {
	t.Helper()
	var private []*packet.PrivateKey
	for _, k := range keys {
		private = append(private, k.PrivateKey)
	}
	var b bytes.Buffer
	w, err := clearsign.EncodeMulti(&b, private, &packet.Config{Time: func() time.Time { return signedAt }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const releaseText = `Suite: stable
Codename: trixie
Date: Fri, 01 May 2026 11:00:00 UTC
Valid-Until: Fri, 08 May 2026 11:00:00 UTC
Acquire-By-Hash: yes
SHA256:
 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 12 main/binary-amd64/Packages.xz
`

func TestVerifyInRelease(t *testing.T) {
	known, stranger := newKey(t, "archive"), newKey(t, "stranger")
	ring := openpgp.EntityList{known}
	rel, err := VerifyInRelease("r", clearSign(t, releaseText, stranger, known), ring, signedAt)
	if err != nil {
		t.Fatal(err)
	}
	if rel.Codename != "trixie" || !rel.ByHash || rel.Files["main/binary-amd64/Packages.xz"].Size != 12 || rel.ValidUntil.Day() != 8 {
		t.Errorf("release %+v", rel)
	}
	if len(rel.SignedBy) != 1 || rel.SignedBy[0] != fingerprint(known.PrimaryKey.Fingerprint) {
		t.Errorf("signed by %v", rel.SignedBy)
	}
}

func TestVerifyInReleaseRefuses(t *testing.T) {
	known, stranger := newKey(t, "archive"), newKey(t, "stranger")
	good := clearSign(t, releaseText, known)
	for name, c := range map[string]struct {
		data []byte
		now  time.Time
		want string
	}{
		"changed text":     {bytes.Replace(good, []byte(" 12 main"), []byte(" 13 main"), 1), signedAt, "no signature is by a trusted key"},
		"stranger":         {clearSign(t, releaseText, stranger), signedAt, "no signature is by a trusted key"},
		"text in front":    {append([]byte("Codename: evil\n"), good...), signedAt, "does not start with"},
		"text behind":      {append(bytes.Clone(good), "Codename: evil\n"...), signedAt, "after its signature"},
		"unsigned":         {[]byte(releaseText), signedAt, "does not start with"},
		"signature cut":    {good[:len(good)-60], signedAt, "is not a clear-signed message"},
		"stale":            {good, signedAt.AddDate(0, 0, 8), "the mirror is stale"},
		"from the future":  {good, signedAt.AddDate(0, 0, -3), ""},
		"signed by no one": {clearSign(t, releaseText), signedAt, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := VerifyInRelease("r", c.data, openpgp.EntityList{known}, c.now)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v does not contain %q", err, c.want)
			}
			if fault.ClassOf(err) != fault.Digest {
				t.Errorf("class %d of %v", fault.ClassOf(err), err)
			}
		})
	}
}

func TestParseReleaseReportsEveryProblem(t *testing.T) {
	_, err := parseRelease("r", "Date: yesterday\nValid-Until: Fri, 08 May 2026 11:00:00 CEST\nSHA256:\n zz 1 a\n "+strings.Repeat("a", 64)+" -1 b\n x\n")
	for _, want := range []string{`Date "yesterday"`, "is not in UTC", "has no Codename", `r:4:1: "zz 1 a"`, "r:5:1:", `r:6:1: "x" is not a digest, a size and a path`, "lists no files"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not contain %q:\n%v", want, err)
		}
	}
}

// The archive's keys really are in the program, and are usable for signatures.
func TestKeyring(t *testing.T) {
	ring, err := Keyring()
	if err != nil || len(ring) < 3 {
		t.Fatalf("%d keys, %v", len(ring), err)
	}
	for _, e := range ring {
		if _, ok := e.SigningKey(signedAt); !ok {
			t.Errorf("key %s cannot sign", fingerprint(e.PrimaryKey.Fingerprint))
		}
	}
}

func FuzzParseRelease(f *testing.F) {
	f.Add(releaseText)
	f.Fuzz(func(t *testing.T, text string) {
		rel, err := parseRelease("f", text)
		if err != nil {
			return
		}
		for path, file := range rel.Files {
			if file.Path != path || file.Size < 0 || !validSHA256(file.SHA256) {
				t.Errorf("file %+v under %q", file, path)
			}
		}
	})
}

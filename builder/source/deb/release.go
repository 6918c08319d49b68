// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"

	"github.com/imgbuild/imgbuild/assets/keyrings"
	"github.com/imgbuild/imgbuild/builder/fault"
)

// Release is the verified content of an InRelease file.
type Release struct {
	Suite, Codename string
	// Date is when the archive was signed, ValidUntil when a mirror that still serves
	// it is stale; zero when the archive does not say (Debian's main suite does not).
	Date, ValidUntil time.Time
	// DateText is the Date field as signed.
	DateText string
	ByHash   bool
	Files    map[string]IndexFile
	// SignedBy holds the primary key fingerprints that verified, sorted.
	SignedBy []string
}

// IndexFile is one line of a Release file's SHA256 field.
type IndexFile struct {
	Path   string
	Size   int64
	SHA256 string
}

// Keyring returns the embedded keys of the Debian archive.
func Keyring() (openpgp.EntityList, error) {
	files, err := keyrings.Debian()
	if err != nil {
		return nil, err
	}
	var ring openpgp.EntityList
	for _, name := range slices.Sorted(maps.Keys(files)) {
		keys, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(files[name]))
		if err != nil {
			return nil, fmt.Errorf("embedded keyring %s: %w", name, err)
		}
		ring = append(ring, keys...)
	}
	return ring, nil
}

// VerifyInRelease checks the clear-signed file data, named name in errors, against ring
// and returns its content. At least one signature must be by a key of ring and be valid
// at the time now; signatures by other keys (Debian signs with the keys of the previous
// release too) are ignored. Text outside the signed part is refused. A Date more than a
// day ahead or a Valid-Until that has passed is an error.
func VerifyInRelease(name string, data []byte, ring openpgp.EntityList, now time.Time) (*Release, error) {
	if !bytes.HasPrefix(data, []byte("-----BEGIN PGP SIGNED MESSAGE-----")) {
		return nil, badSignature("%s: does not start with a clear-signed message", name)
	}
	block, rest := clearsign.Decode(data)
	if block == nil {
		return nil, badSignature("%s: is not a clear-signed message", name)
	}
	if len(bytes.TrimSpace(rest)) != 0 {
		return nil, badSignature("%s: has %d bytes after its signature", name, len(rest))
	}
	signedBy, err := verifySignatures(name, block, ring, now)
	if err != nil {
		return nil, err
	}
	rel, err := parseRelease(name, string(block.Plaintext))
	if err != nil {
		return nil, err
	}
	rel.SignedBy = signedBy
	return rel, rel.checkDates(name, now)
}

func badSignature(format string, args ...any) error {
	return fault.New(fault.Digest, "use another mirror with --mirror; if every mirror fails, the archive's keys may have changed", format, args...)
}

// checkDates guards against a mirror that is frozen in the past and against a wrong clock.
func (r *Release) checkDates(name string, now time.Time) error {
	switch {
	case r.Date.After(now.Add(24 * time.Hour)):
		return badSignature("%s: was signed at %s, which is in the future (this machine's clock says %s)", name, r.Date.Format(time.RFC3339), now.Format(time.RFC3339))
	case !r.ValidUntil.IsZero() && now.After(r.ValidUntil):
		return badSignature("%s: is valid until %s only; the mirror is stale, or this machine's clock (%s) is wrong", name, r.ValidUntil.Format(time.RFC3339), now.Format(time.RFC3339))
	}
	return nil
}

func parseRelease(name, text string) (*Release, error) {
	var p Paragraph
	n := 0
	err := Paragraphs(name, text, false, func(q Paragraph) error { p = slices.Clone(q); n++; return nil })
	if err != nil {
		return nil, err
	}
	if n != 1 {
		return nil, fmt.Errorf("%s: has %d paragraphs, want 1", name, n)
	}
	rel := &Release{Suite: p.Get("Suite"), Codename: p.Get("Codename"), DateText: p.Get("Date"), ByHash: p.Get("Acquire-By-Hash") == "yes"}
	var problems []error
	if rel.Date, err = ParseDate(rel.DateText); err != nil {
		problems = append(problems, fmt.Errorf("%s: Date %q: %w", name, rel.DateText, err))
	}
	if v := p.Get("Valid-Until"); v != "" {
		if rel.ValidUntil, err = ParseDate(v); err != nil {
			problems = append(problems, fmt.Errorf("%s: Valid-Until %q: %w", name, v, err))
		}
	}
	if rel.Codename == "" {
		problems = append(problems, fmt.Errorf("%s: has no Codename", name))
	}
	rel.Files = map[string]IndexFile{}
	if f := findField(p, "SHA256"); f != nil {
		for i, line := range f.Lines() {
			file, err := parseIndexLine(line)
			if err != nil {
				problems = append(problems, fmt.Errorf("%s:%d:1: %w", name, f.Line+i+1, err))
				continue
			}
			rel.Files[file.Path] = file
		}
	}
	if len(rel.Files) == 0 {
		problems = append(problems, fmt.Errorf("%s: lists no files in a SHA256 field", name))
	}
	return rel, errors.Join(problems...)
}

// ParseDate reads the format of Debian's Date fields, RFC 1123 with "UTC" or "GMT".
func ParseDate(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC1123, s)
	if err != nil {
		if t, err = time.Parse("Mon, _2 Jan 2006 15:04:05 MST", s); err != nil {
			return time.Time{}, fmt.Errorf("is not a date such as %q", time.RFC1123)
		}
	}
	if zone, _ := t.Zone(); zone != "UTC" && zone != "GMT" {
		return time.Time{}, fmt.Errorf("is not in UTC")
	}
	return t.UTC(), nil
}

func parseIndexLine(line string) (IndexFile, error) {
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return IndexFile{}, fmt.Errorf("%q is not a digest, a size and a path", clip(line))
	}
	size, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil || size < 0 {
		return IndexFile{}, fmt.Errorf("%q: size %q is not a decimal number", clip(line), fields[1])
	}
	if !validSHA256(fields[0]) {
		return IndexFile{}, fmt.Errorf("%q: %q is not a SHA-256 in hexadecimal", clip(line), fields[0])
	}
	return IndexFile{Path: fields[2], Size: size, SHA256: strings.ToLower(fields[0])}, nil
}

func validSHA256(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32
}

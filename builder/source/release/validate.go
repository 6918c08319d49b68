// SPDX-License-Identifier: Apache-2.0

package release

import (
	"fmt"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/store"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

var (
	nameRE    = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
	versionRE = regexp.MustCompile(`^[0-9][0-9A-Za-z.+-]*$`)
)

// archiveTarGz is the one archive format that projects release for Linux.
const archiveTarGz = "tar.gz"

func validate(doc *strict.Document, p *Pins) {
	report := doc.Report
	if p.Version != FormatVersion {
		report("version", "is not the format this imgbuild reads", fmt.Sprint(FormatVersion))
	}
	seen := map[string]bool{}
	for i := range p.Releases {
		r := &p.Releases[i]
		at := fmt.Sprintf("releases[%d]", i)
		if !nameRE.MatchString(r.Name) {
			report(at+".name", "is not a name", "lower-case letters, digits and dashes")
		}
		if !versionRE.MatchString(r.Version) {
			report(at+".version", "is not a version", "a digit, then letters, digits, dots, plus and minus signs; no leading v")
		}
		if id := r.String(); seen[id] {
			report(at+".version", id+" is pinned twice")
		} else {
			seen[id] = true
		}
		r.validateOrigin(at, report)
		r.validateFiles(at, report)
	}
}

type reporter func(path, what string, allowed ...string)

func (r *Release) validateOrigin(at string, report reporter) {
	u, err := url.Parse(r.expand(r.URL, "amd64"))
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "":
		report(at+".url", "is not an https URL")
	case strings.ContainsAny(u.String(), "{}") || strings.Contains(u.Path, "{"):
		report(at+".url", "has an unknown placeholder", "{v}", "{a}")
	}
	if len(r.SHA256) == 0 {
		report(at+".sha256", "is missing", "a mapping of architectures to digests")
	}
	for _, arch := range slices.Sorted(maps.Keys(r.SHA256)) {
		if !slices.Contains(lock.Architectures, arch) {
			report(at+".sha256."+arch, "is not a known architecture", lock.Architectures...)
		}
		if _, err := store.ParseDigest(r.SHA256[arch]); err != nil {
			report(at+".sha256."+arch, "is not a SHA-256", "64 lower-case hexadecimal digits")
		}
	}
}

func (r *Release) validateFiles(at string, report reporter) {
	if r.Archive != "" && r.Archive != archiveTarGz {
		report(at+".archive", "is not a known archive format", archiveTarGz)
	}
	if len(r.Files) == 0 {
		report(at+".files", "is missing: the release would put nothing into the image")
	}
	if r.Archive == "" && len(r.Files) > 1 {
		report(at+".files", "has several files, but the artefact is not an archive")
	}
	targets := map[string]bool{}
	for i, f := range r.Files {
		at := fmt.Sprintf("%s.files[%d]", at, i)
		from := r.expand(f.From, "amd64")
		switch {
		case r.Archive == "" && f.From != "":
			report(at+".from", "names a member, but the artefact is not an archive")
		case r.Archive != "" && (!isLocal(from) || strings.ContainsAny(from, "{}")):
			report(at+".from", "is not the path of an archive member", "a clean relative path, with {v} and {a}")
		}
		to := r.target(f, "amd64")
		if !strings.HasPrefix(to, "/usr/") || path.Clean(to) != to || strings.ContainsAny(to, "{}") ||
			strings.HasSuffix(f.Path, "/") && f.From == "" {
			report(at+".path", "is not a place for a file of the image", "a clean path below /usr")
		}
		if targets[to] {
			report(at+".path", to+" is written twice")
		}
		targets[to] = true
	}
}

// isLocal reports whether p is a clean relative path that stays where it starts.
func isLocal(p string) bool {
	return p != "" && p != "." && path.Clean(p) == p && !path.IsAbs(p) && p != ".." && !strings.HasPrefix(p, "../")
}

// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// The names of the two archives that a lock refers to, never by host.
const (
	MainArchive     = "debian"
	SecurityArchive = "debian-security"
)

// The environment variables that name mirrors.
const (
	MirrorVariable         = "IMGBUILD_DEBIAN_MIRROR"
	SecurityMirrorVariable = "IMGBUILD_DEBIAN_SECURITY_MIRROR"
)

// Mirrors maps an archive name to base URLs, best first, without a trailing slash.
type Mirrors map[string][]string

// MirrorOptions are the places a mirror can be named, in the order they are asked.
type MirrorOptions struct {
	// Flag is the value of --mirror.
	Flag string
	// Getenv reads the environment; nil means the process's own.
	Getenv func(string) string
	// Profile is the mirror the profile names.
	Profile string
	// AptDir is the directory of the host's apt sources; empty means /etc/apt.
	AptDir string
}

// FindMirrors returns where to get the two archives from. A mirror of the main archive
// that is named explicitly implies the security archive beside it: the same URL with
// "-security" appended, unless IMGBUILD_DEBIAN_SECURITY_MIRROR names another.
func FindMirrors(o MirrorOptions) (Mirrors, error) {
	getenv := o.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	m := Mirrors{}
	for _, c := range []struct{ from, value string }{
		{"--mirror", o.Flag}, {MirrorVariable, getenv(MirrorVariable)}, {"the profile's debian.mirror", o.Profile},
	} {
		if c.value == "" {
			continue
		}
		base, err := checkMirror(c.from, c.value)
		if err != nil {
			return nil, err
		}
		m[MainArchive], m[SecurityArchive] = []string{base}, []string{base + "-security"}
		break
	}
	if v := getenv(SecurityMirrorVariable); v != "" {
		base, err := checkMirror(SecurityMirrorVariable, v)
		if err != nil {
			return nil, err
		}
		m[SecurityArchive] = []string{base}
	}
	if len(m[MainArchive]) > 0 {
		return m, nil
	}
	if err := m.addAptSources(o.AptDir); err != nil {
		return nil, err
	}
	if len(m[MainArchive]) == 0 {
		return nil, fault.New(fault.Network, "name one with --mirror URL, with "+MirrorVariable+"=URL, or as debian.mirror in the profile; the URL is the directory that holds dists/ and pool/",
			"no Debian mirror is known: none was given and this host's apt sources name none")
	}
	if len(m[SecurityArchive]) == 0 {
		for _, base := range m[MainArchive] {
			m[SecurityArchive] = append(m[SecurityArchive], base+"-security")
		}
	}
	return m, nil
}

// addAptSources adds the mirrors in the host's apt configuration, whatever release of
// Debian they are used for. Files that cannot be read or parsed are passed over: they
// belong to the host, and naming a mirror explicitly always works.
func (m Mirrors) addAptSources(dir string) error {
	if dir == "" {
		dir = "/etc/apt"
	}
	names := []string{filepath.Join(dir, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, err := filepath.Glob(filepath.Join(dir, "sources.list.d", pattern))
		if err != nil {
			return err
		}
		names = append(names, more...)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		parse := ParseSourcesList
		if strings.HasSuffix(name, ".sources") {
			parse = ParseSources
		}
		sources, err := parse(name, string(data))
		if err != nil {
			continue
		}
		for _, s := range sources {
			m.add(s)
		}
	}
	return nil
}

// add keeps s if it is a Debian archive: what one is called in its path is a convention
// that every public mirror follows.
func (m Mirrors) add(s Source) {
	base, err := checkMirror("", s.URI)
	if err != nil {
		return
	}
	archive := ""
	switch {
	case strings.HasSuffix(base, "/debian-security"):
		archive = SecurityArchive
	case strings.HasSuffix(base, "/debian"):
		archive = MainArchive
	default:
		return
	}
	if !slices.Contains(m[archive], base) {
		m[archive] = append(m[archive], base)
	}
}

// checkMirror validates a base URL that came from the place called from.
func checkMirror(from, value string) (string, error) {
	base := strings.TrimRight(value, "/")
	u, err := url.Parse(base)
	if err != nil || !(u.Scheme == "file" && u.Path != "" || (u.Scheme == "http" || u.Scheme == "https") && u.Host != "") {
		return "", fault.New(fault.Usage, "name the directory that holds dists/ and pool/, such as http://HOST/debian", "%s: mirror %q is not an http, https or file URL", from, value)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fault.New(fault.Usage, "give scheme, host and path only", "%s: mirror %q has credentials, a query or a fragment", from, u.Redacted())
	}
	return base, nil
}

// URLs returns where a file of an archive can be had, best first.
func (m Mirrors) URLs(archive, path string) ([]string, error) {
	bases := m[archive]
	if len(bases) == 0 {
		return nil, fault.New(fault.Network, "name a mirror with --mirror", "no mirror of the archive %q is known", archive)
	}
	out := make([]string, len(bases))
	for i, base := range bases {
		out[i] = fmt.Sprintf("%s/%s", base, escapePath(path))
	}
	return out, nil
}

// escapePath escapes a pool path for a URL: versions hold "+" and "~", which mirrors
// serve under their plain or their escaped form alike.
func escapePath(p string) string { return (&url.URL{Path: p}).EscapedPath() }

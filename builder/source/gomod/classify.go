// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// symptoms maps what the go command writes to the class of the failure, first match wins.
// The go command has no machine-readable errors; the texts are those of cmd/go and net
// since Go 1.16 and a test keeps samples of each.
var symptoms = []struct {
	text  *regexp.Regexp
	class fault.Class
	hint  string
}{
	{regexp.MustCompile(`checksum mismatch|SECURITY ERROR|verifying .*: .*(checksum|hash)`), fault.Digest,
		"the module's bytes are not those that go.sum pins: check the module proxy (GOPROXY), and clear its copy with go clean -modcache"},
	{regexp.MustCompile(`no space left on device`), fault.NoSpace,
		"free some space in Go's caches (go env GOCACHE GOMODCACHE) or TMPDIR"},
	{regexp.MustCompile(`dial tcp|no such host|i/o timeout|connection (refused|reset)|network is unreachable|TLS handshake|proxyconnect|module lookup disabled by GOPROXY=off|unexpected EOF|5\d\d (Internal Server Error|Bad Gateway|Service Unavailable|Gateway Time-?out)|429 Too Many Requests|Client\.Timeout`), fault.Network,
		"check the connection and GOPROXY, and run again: what was fetched already is kept"},
	{regexp.MustCompile(`404 Not Found|410 Gone|unknown revision|invalid version|no matching versions|not found: module`), fault.MissingPin,
		"the module proxy no longer serves this version: choose another in the component's go.mod and component.yaml, then run imgbuild lock"},
	{regexp.MustCompile(`missing go\.sum entry|updates to go\.mod needed|go: updating go\.mod|no required module provides`), fault.Config,
		"the component's go.mod and go.sum are incomplete: run go mod tidy in its directory"},
	{regexp.MustCompile(`requires go >= |go\.mod requires go`), fault.Build,
		"install a newer Go toolchain"},
}

// classify gives a failed go command its class.
func classify(f *Failed) error {
	for _, s := range symptoms {
		if !s.text.MatchString(f.Output) {
			continue
		}
		if mods := f.Modules(); len(mods) > 0 && s.class != fault.Build {
			return fault.Wrap(s.class, fmt.Errorf("module %s: %w", strings.Join(mods, ", "), f), s.hint)
		}
		return fault.Wrap(s.class, f, s.hint)
	}
	return fault.Wrap(fault.Build, f, "read the output above; run the command in a terminal to see all of it")
}

var moduleRE = regexp.MustCompile(`([a-z0-9.-]+\.[a-z]{2,}(?:/[A-Za-z0-9_.~!-]+)*)@(v[0-9][A-Za-z0-9.+-]*)`)

// Modules names the modules that a failed command's output mentions as path@version, in
// order, so that messages can say what could not be fetched. When it mentions none, they
// are the ones that it had begun to download.
func (f *Failed) Modules() []string {
	var all []string
	for _, m := range moduleRE.FindAllString(f.Output, -1) {
		if m = strings.TrimRight(m, ".:"); !slices.Contains(all, m) {
			all = append(all, m)
		}
	}
	if len(all) > 0 {
		return all
	}
	for line := range strings.Lines(f.Output) {
		if m, ok := strings.CutPrefix(strings.TrimSpace(line), downloading); ok {
			all = append(all, strings.Replace(m, " ", "@", 1))
		}
	}
	return all
}

// downloading is how the go command announces a module on standard error, followed by
// its path and version.
const downloading = "go: downloading "

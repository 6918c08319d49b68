// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"fmt"
	"strings"
)

// Source is one archive and suite of a host's apt configuration.
type Source struct {
	URI   string
	Suite string
}

// ParseSourcesList reads the one-line format of sources.list(5): deb [options] uri suite
// component... Lines for source packages are skipped.
func ParseSourcesList(name, data string) ([]Source, error) {
	var out []Source
	line := 0
	for text := range strings.SplitSeq(data, "\n") {
		line++
		text, _, _ = strings.Cut(text, "#")
		fields := strings.Fields(text)
		if len(fields) == 0 || fields[0] == "deb-src" {
			continue
		}
		if fields[0] != "deb" {
			return nil, fmt.Errorf("%s:%d:1: %q is not \"deb\" or \"deb-src\"", name, line, clip(fields[0]))
		}
		fields = fields[1:]
		if len(fields) > 0 && strings.HasPrefix(fields[0], "[") {
			for len(fields) > 0 && !strings.HasSuffix(fields[0], "]") {
				fields = fields[1:]
			}
			if len(fields) == 0 {
				return nil, fmt.Errorf("%s:%d:1: the options in brackets do not end", name, line)
			}
			fields = fields[1:]
		}
		if len(fields) < 2 {
			return nil, fmt.Errorf("%s:%d:1: %q has no URI and suite", name, line, clip(text))
		}
		out = append(out, Source{URI: fields[0], Suite: fields[1]})
	}
	return out, nil
}

// ParseSources reads the deb822 format of sources.list(5). Stanzas that are disabled or
// for source packages only are skipped.
func ParseSources(name, data string) ([]Source, error) {
	var out []Source
	err := Paragraphs(name, data, true, func(p Paragraph) error {
		if strings.EqualFold(p.Get("Enabled"), "no") || !contains(p.Get("Types"), "deb") {
			return nil
		}
		uris, suites := strings.Fields(p.Get("URIs")), strings.Fields(p.Get("Suites"))
		if len(uris) == 0 || len(suites) == 0 {
			return fmt.Errorf("%s:%d:1: the stanza has no URIs or no Suites", name, p[0].Line)
		}
		for _, uri := range uris {
			for _, suite := range suites {
				out = append(out, Source{URI: uri, Suite: suite})
			}
		}
		return nil
	})
	return out, err
}

// contains reports whether the blank-separated list holds word.
func contains(list, word string) bool {
	for f := range strings.FieldsSeq(list) {
		if f == word {
			return true
		}
	}
	return false
}

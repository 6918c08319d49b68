// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Matcher finds which of many path patterns cover a path. Patterns are absolute; * stays
// within a directory, ** crosses directories, {a,b} are alternatives. A pattern that
// matches a directory covers everything below it.
type Matcher struct {
	exact map[string][]int // paths without wildcards
	globs []glob
}

type glob struct {
	index   int
	prefix  string // what precedes the first wildcard
	depth   int    // the number of slashes in what it matches; -1 when it holds **
	pattern string
}

// NewMatcher compiles patterns. Alternatives are expanded here, once, so that matching
// ten thousand paths costs map lookups and few real glob matches.
func NewMatcher(patterns []string) (*Matcher, error) {
	m := &Matcher{exact: map[string][]int{}}
	for i, p := range patterns {
		if !strings.HasPrefix(p, "/") {
			return nil, fmt.Errorf("pattern %q: want an absolute path", p)
		}
		if !doublestar.ValidatePattern(p) {
			return nil, fmt.Errorf("pattern %q: brackets or braces do not match up", p)
		}
		for _, alternative := range expand(p) {
			wild := strings.IndexAny(alternative, `*?[\`)
			if wild < 0 {
				clean := path.Clean(alternative)
				m.exact[clean] = append(m.exact[clean], i)
				continue
			}
			depth := -1
			if !strings.Contains(alternative, "**") {
				depth = strings.Count(alternative, "/")
			}
			m.globs = append(m.globs, glob{i, alternative[:wild], depth, alternative})
		}
	}
	return m, nil
}

// Match returns the indexes of the patterns that cover p, in no particular order.
func (m *Matcher) Match(p string) []int {
	var out []int
	for dir := p; dir != "/" && dir != "."; dir = path.Dir(dir) {
		out = append(out, m.here(dir)...)
	}
	return out
}

// here returns the indexes of the patterns that match p itself.
func (m *Matcher) here(p string) []int {
	out := slices.Clip(m.exact[p])
	depth := strings.Count(p, "/")
	for _, g := range m.globs {
		if !strings.HasPrefix(p, g.prefix) || g.depth >= 0 && g.depth != depth {
			continue
		}
		if ok, _ := doublestar.Match(g.pattern, p); ok {
			out = append(out, g.index)
		}
	}
	return out
}

// expand returns the alternatives of a pattern with its braces resolved.
func expand(p string) []string {
	open := strings.IndexByte(p, '{')
	if open < 0 {
		return []string{p}
	}
	depth, start := 0, open+1
	var choices []string
	for i := open; i < len(p); i++ {
		switch p[i] {
		case '{':
			depth++
		case ',':
			if depth == 1 {
				choices = append(choices, p[start:i])
				start = i + 1
			}
		case '}':
			if depth--; depth > 0 {
				continue
			}
			choices = append(choices, p[start:i])
			var out []string
			for _, c := range choices {
				out = append(out, expand(p[:open]+c+p[i+1:])...)
			}
			return out
		}
	}
	return []string{p}
}

// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/fault"
)

func TestParseSourcesList(t *testing.T) {
	got, err := ParseSourcesList("l", "# comment\n\ndeb http://a.test/debian bookworm main # tail\ndeb-src http://b.test/debian x main\ndeb [ arch=amd64 signed-by=/k ] https://c.test/debian-security y/updates main\ndeb [trusted=yes] http://d.test ./\n")
	want := []Source{{"http://a.test/debian", "bookworm"}, {"https://c.test/debian-security", "y/updates"}, {"http://d.test", "./"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for in, want := range map[string]string{
		"\nrpm http://a x\n":   "l:2:1:",
		"deb http://a\n":       "no URI and suite",
		"deb [arch=a http://a": "do not end",
		"deb":                  "no URI and suite",
	} {
		if _, err := ParseSourcesList("l", in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v does not contain %q", in, err, want)
		}
	}
}

func TestParseSources(t *testing.T) {
	got, err := ParseSources("s", `# snapshot
Types: deb deb-src
URIs: http://a.test/debian http://b.test/debian
Suites: trixie
 trixie-updates
Components: main

Enabled: no
Types: deb
URIs: http://off.test/debian
Suites: x

Types: deb-src
URIs: http://src.test/debian
Suites: x
`)
	want := []Source{{"http://a.test/debian", "trixie"}, {"http://a.test/debian", "trixie-updates"}, {"http://b.test/debian", "trixie"}, {"http://b.test/debian", "trixie-updates"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := ParseSources("s", "\nTypes: deb\nURIs: x\n"); err == nil || !strings.Contains(err.Error(), "s:2:1:") {
		t.Errorf("a stanza without suites: %v", err)
	}
}

func TestFindMirrors(t *testing.T) {
	apt := t.TempDir()
	parts := filepath.Join(apt, "sources.list.d")
	if err := os.Mkdir(parts, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"sources.list":                  "deb http://one.test/debian/ bookworm main\ndeb http://other.test/apt stable main\n",
		"sources.list.d/debian.sources": "Types: deb\nURIs: http://two.test/mirror/debian http://one.test/debian\nSuites: x\n\nTypes: deb\nURIs: http://sec.test/debian-security\nSuites: y\n",
		"sources.list.d/broken.list":    "nonsense\n",
		"sources.list.d/ignored.save":   "deb http://ignored.test/debian x main\n",
	} {
		if err := os.WriteFile(filepath.Join(apt, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	for name, c := range map[string]struct {
		o              MirrorOptions
		main, security []string
	}{
		"flag first": {MirrorOptions{Flag: "http://f.test/debian/", Getenv: env(MirrorVariable, "http://e.test/debian"), Profile: "http://p.test/debian", AptDir: apt},
			[]string{"http://f.test/debian"}, []string{"http://f.test/debian-security"}},
		"environment": {MirrorOptions{Getenv: env(MirrorVariable, "http://e.test/x", SecurityMirrorVariable, "https://s.test/y/"), Profile: "http://p.test/debian", AptDir: apt},
			[]string{"http://e.test/x"}, []string{"https://s.test/y"}},
		"profile": {MirrorOptions{Getenv: env(), Profile: "file:///srv/debian", AptDir: apt},
			[]string{"file:///srv/debian"}, []string{"file:///srv/debian-security"}},
		"apt": {MirrorOptions{Getenv: env(), AptDir: apt},
			[]string{"http://one.test/debian", "http://two.test/mirror/debian"}, []string{"http://sec.test/debian-security"}},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := FindMirrors(c.o)
			if err != nil || !slices.Equal(m[MainArchive], c.main) || !slices.Equal(m[SecurityArchive], c.security) {
				t.Errorf("got %v, %v, want %v and %v", m, err, c.main, c.security)
			}
		})
	}
	_, err := FindMirrors(MirrorOptions{Getenv: env(), AptDir: t.TempDir()})
	if fault.ClassOf(err) != fault.Network || !strings.Contains(err.Error(), "--mirror") || !strings.Contains(err.Error(), MirrorVariable) {
		t.Errorf("without any mirror: %v", err)
	}
	for _, bad := range []string{"ftp://x.test/debian", "x.test/debian", "http://u:p@x.test/debian", "http://x.test/?q"} {
		_, err := FindMirrors(MirrorOptions{Flag: bad, Getenv: env(), AptDir: apt})
		if fault.ClassOf(err) != fault.Usage || strings.Contains(err.Error(), "u:p@") {
			t.Errorf("mirror %q: %v", bad, err)
		}
	}
}

func TestURLsEscape(t *testing.T) {
	m := Mirrors{MainArchive: {"http://a.test/debian"}}
	got, err := m.URLs(MainArchive, "pool/main/l/l_1%2~a+b_all.deb")
	if err != nil || !slices.Equal(got, []string{"http://a.test/debian/pool/main/l/l_1%252~a+b_all.deb"}) {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := m.URLs("debian-ports", "x"); err == nil {
		t.Error("an archive without a mirror is no error")
	}
}

func FuzzSources(f *testing.F) {
	f.Add("deb [arch=amd64] http://a.test/debian trixie main\n")
	f.Add("Types: deb\nURIs: http://a.test/debian\nSuites: trixie\n")
	f.Fuzz(func(t *testing.T, data string) {
		for _, parse := range []func(string, string) ([]Source, error){ParseSourcesList, ParseSources} {
			sources, err := parse("f", data)
			if err != nil && !strings.HasPrefix(err.Error(), "f:") {
				t.Errorf("error without a place: %v", err)
			}
			for _, s := range sources {
				if s.URI == "" || s.Suite == "" || strings.ContainsAny(s.URI+s.Suite, " \n") {
					t.Errorf("source %q of %q", s, data)
				}
			}
		}
	})
}

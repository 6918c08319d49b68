// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// testIndex makes an index from lines "name version [Field: value; ...]".
func testIndex(t *testing.T, lines ...string) *Index {
	t.Helper()
	var b strings.Builder
	for _, line := range lines {
		head, fields, _ := strings.Cut(line, " [")
		name, version, _ := strings.Cut(head, " ")
		fmt.Fprintf(&b, "Package: %s\nVersion: %s\nArchitecture: amd64\nFilename: pool/main/x/%s.deb\nSize: 1\nSHA256: %064x\n", name, version, name, len(line))
		for field := range strings.SplitSeq(strings.TrimSuffix(fields, "]"), ";") {
			if field = strings.TrimSpace(field); field != "" {
				b.WriteString(field + "\n")
			}
		}
		b.WriteString("\n")
	}
	ix := NewIndex("amd64")
	if err := ix.Add(MainArchive, "trixie", "Packages", b.String()); err != nil {
		t.Fatal(err)
	}
	return ix
}

func TestResolve(t *testing.T) {
	for name, c := range map[string]struct {
		index []string
		want  Want
		out   string // in order
	}{
		"chain, dependencies first": {[]string{"a 1 [Depends: b]", "b 1 [Pre-Depends: c]", "c 1 [Recommends: d]", "d 1"}, Want{Packages: []string{"a"}}, "c b a"},
		"cycle":                     {[]string{"a 1 [Depends: b]", "b 1 [Depends: a]"}, Want{Packages: []string{"b", "a"}}, "b a"},
		"newest version":            {[]string{"a 1~rc1", "a 1+b1", "a 1"}, Want{Packages: []string{"a"}}, "a=1+b1"},
		"older version on demand":   {[]string{"a 1 [Depends: b (<< 2)]", "b 2", "b 1"}, Want{Packages: []string{"a"}}, "b=1 a"},
		"first alternative":         {[]string{"a 1 [Depends: x | b | c]", "b 1", "c 1"}, Want{Packages: []string{"a"}}, "b a"},
		"alternative in the set":    {[]string{"a 1 [Depends: b | c]", "b 1", "c 1"}, Want{Packages: []string{"a", "c"}}, "c a"},
		"decided after the forced":  {[]string{"a 1 [Depends: b | c, z]", "b 1", "c 1", "z 1 [Depends: c]"}, Want{Packages: []string{"a"}}, "c z a"},
		"version of an alternative": {[]string{"a 1 [Depends: b (>= 2) | c]", "b 1", "c 1"}, Want{Packages: []string{"a"}}, "c a"},
		"virtual by priority":       {[]string{"a 1 [Depends: v]", "p 1 [Provides: v; Priority: optional]", "q 1 [Provides: v; Priority: required]"}, Want{Packages: []string{"a"}}, "q a"},
		"virtual by name":           {[]string{"a 1 [Depends: v]", "q 1 [Provides: v]", "p 1 [Provides: v]"}, Want{Packages: []string{"a"}}, "p a"},
		"virtual in the set":        {[]string{"a 1 [Depends: v]", "q 1 [Provides: v]", "p 1 [Provides: v]"}, Want{Packages: []string{"a", "q"}}, "q a"},
		"versioned virtual":         {[]string{"a 1 [Depends: v (>= 2)]", "p 1 [Provides: v]", "q 1 [Provides: v (= 2)]"}, Want{Packages: []string{"a"}}, "q a"},
		"qualifier":                 {[]string{"a 1 [Depends: b:any]", "b 1"}, Want{Packages: []string{"a"}}, "b a"},
		"omitted":                   {[]string{"a 1 [Depends: b, c]", "b 1", "c 1"}, Want{Packages: []string{"a"}, Omit: map[string]string{"b": "x"}}, "c a"},
		"omitted alternative":       {[]string{"a 1 [Depends: b | c]", "b 1", "c 1"}, Want{Packages: []string{"a"}, Omit: map[string]string{"c": "x"}}, "a"},
		"all providers omitted":     {[]string{"a 1 [Depends: v]", "b 1 [Provides: v]"}, Want{Packages: []string{"a"}, Omit: map[string]string{"b": "x"}}, "a"},
		"one provider omitted":      {[]string{"a 1 [Depends: v]", "b 1 [Provides: v]", "c 1 [Provides: v]"}, Want{Packages: []string{"a"}, Omit: map[string]string{"b": "x"}}, "c a"},
		"conflict with itself":      {[]string{"a 1 [Provides: v; Conflicts: v]"}, Want{Packages: []string{"a"}}, "a"},
		"breaks an old version":     {[]string{"a 1 [Breaks: b (<< 2)]", "b 2"}, Want{Packages: []string{"a", "b"}}, "a b"},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.Set = "test"
			got, err := testIndex(t, c.index...).Resolve(c.want)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, p := range got {
				if strings.Contains(c.out, p.Name+"=") {
					names = append(names, p.Name+"="+p.Version)
				} else {
					names = append(names, p.Name)
				}
			}
			if s := strings.Join(names, " "); s != c.out {
				t.Errorf("got %q, want %q", s, c.out)
			}
		})
	}
}

func TestResolveIsIndependentOfOrder(t *testing.T) {
	lines := []string{"a 1 [Depends: v | w, x]", "b 1 [Provides: v]", "c 1 [Provides: v, w]", "x 1 [Depends: w]", "d 1 [Depends: c | b]"}
	first, err := testIndex(t, lines...).Resolve(Want{Packages: []string{"a", "d"}})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(lines)
	second, err := testIndex(t, lines...).Resolve(Want{Packages: []string{"d", "a"}})
	if err != nil || !slices.Equal(first, second) {
		t.Errorf("%v and %v, %v", first, second, err)
	}
}

func TestResolveReportsEverything(t *testing.T) {
	ix := testIndex(t, "a 1 [Depends: gone, b (>= 3), old (= 9) | older]", "b 2 [Conflicts: c]", "c 1", "p 1 [Provides: v]")
	_, err := ix.Resolve(Want{Set: "root/x", Packages: []string{"a", "b", "c", "missing", "v", "kept"}, Omit: map[string]string{"kept": "no need"}})
	if fault.ClassOf(err) != fault.Config {
		t.Fatalf("error %v", err)
	}
	for _, want := range []string{
		"root/x", "a 1 depends on gone: no archive has it", "a 1 depends on b (>= 3): version 2 is in the set",
		"a 1 depends on old (= 9) | older: no archive has it", "b 2 and c 1 cannot be together: Conflicts: c",
		"missing: no archive has a package of this name for amd64", "v: is a virtual package; name one that provides it, such as p",
		`kept: is wanted and omitted ("no need") at once`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not contain %q:\n%v", want, err)
		}
	}
}

func TestIndexRefuses(t *testing.T) {
	good := "Package: a\nVersion: 1\nArchitecture: amd64\nFilename: pool/a.deb\nSize: 1\nSHA256: " + strings.Repeat("a", 64) + "\n"
	if err := NewIndex("amd64").Add("debian", "x", "P", good); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		"Package: a": "Package: A", "Version: 1": "Version: x y", "amd64": "arm64", "pool/a.deb": "pool/../../etc/passwd.deb",
		"Size: 1": "Size: -1", "SHA256: a": "SHA256: z", "Filename: pool": "Filename: /pool",
	} {
		err := NewIndex("amd64").Add("debian", "x", "P", strings.Replace(good, from, to, 1))
		if err == nil || !strings.HasPrefix(err.Error(), "P:1:1:") {
			t.Errorf("with %q: error %v", to, err)
		}
	}
}

func TestSource(t *testing.T) {
	ix := testIndex(t, "a 1-1", "b 1-1+b1 [Source: bb (1-1)]", "c 2 [Source: cc]")
	for name, want := range map[string]string{"a": "a 1-1", "b": "bb 1-1", "c": "cc 2"} {
		if got := ix.packages[name][0].Source; got != want {
			t.Errorf("source of %s is %q, want %q", name, got, want)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"strings"
	"testing"
)

func TestParseRelations(t *testing.T) {
	groups, err := ParseRelations("libc6 (>= 2.41), awk:any | mawk(<<2) ,\n perl:any, x (= 1:2-3)")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range groups {
		got = append(got, g.String())
	}
	want := "libc6 (>= 2.41); awk:any | mawk (<< 2); perl:any; x (= 1:2-3)"
	if strings.Join(got, "; ") != want {
		t.Errorf("got %q, want %q", strings.Join(got, "; "), want)
	}
	if g, err := ParseRelations(" \n "); g != nil || err != nil {
		t.Errorf("empty list: %v, %v", g, err)
	}
}

func TestParseRelationsErrors(t *testing.T) {
	for in, want := range map[string]string{
		"a,,b":        "empty entry",
		"a |":         `"" is not a package name`,
		"A":           "is not a package name",
		"a (> 1)":     `operator ">"`,
		"a (1)":       `operator ""`,
		"a (>= 1":     "does not end in a parenthesis",
		"a (>= )":     "upstream version is empty",
		"a:":          "is not an architecture qualifier",
		"a [amd64]":   "is not a package name",
		"a (>= 1) x":  "does not end in a parenthesis",
		"a <!nocheck": "is not a package name",
	} {
		if _, err := ParseRelations(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseRelations(%q): error %v does not contain %q", in, err, want)
		}
	}
}

func TestAllows(t *testing.T) {
	for _, c := range []struct {
		op, limit, v string
		want         bool
	}{
		{"", "", "1", true}, {"<<", "2", "1", true}, {"<<", "2", "2", false}, {"<=", "2", "2", true}, {"<=", "2", "2.1", false},
		{"=", "1-1", "1-1", true}, {"=", "1-1", "1-1+b1", false}, {">=", "2~", "2~rc1", true}, {">=", "2", "2~rc1", false},
		{">>", "2", "2", false}, {">>", "2", "1:0", true}, {"!", "2", "2", false},
	} {
		if got := (Relation{Name: "x", Operator: c.op, Version: c.limit}).Allows(c.v); got != c.want {
			t.Errorf("%s allowed by (%s %s): %v, want %v", c.v, c.op, c.limit, got, c.want)
		}
	}
}

func FuzzParseRelations(f *testing.F) {
	f.Add("libc6 (>= 2.41), awk:any | mawk (<< 2), x")
	f.Fuzz(func(t *testing.T, in string) {
		groups, err := ParseRelations(in)
		if err != nil {
			return
		}
		var texts []string
		for _, g := range groups {
			texts = append(texts, g.String())
		}
		text := strings.Join(texts, ", ")
		again, err := ParseRelations(text)
		if err != nil || len(again) != len(groups) {
			t.Fatalf("%q was printed as %q, which parses as %v, %v", in, text, again, err)
		}
	})
}

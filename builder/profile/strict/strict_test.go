// SPDX-License-Identifier: Apache-2.0

package strict

import (
	"errors"
	"strings"
	"testing"
)

type inner struct {
	Text string            `yaml:"text"`
	More map[string]string `yaml:"more,omitempty"`
}

type outer struct {
	Name  string   `yaml:"name"`
	Count uint32   `yaml:"count"`
	List  []inner  `yaml:"list"`
	Words []string `yaml:"words"`
	Flag  bool     `yaml:"flag"`
}

func parse(t *testing.T, file, text string) *Document {
	t.Helper()
	d, err := Parse(file, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestMergeRemembersFiles(t *testing.T) {
	parent := parse(t, "p", "name: p\nlist:\n  - {text: a}\nwords: [x]\ncount: 1\n")
	child := parse(t, "c", "list:\n  - text: b\nwords: [y]\ncount: 2\nflag: true\n")
	m := Merge(parent, child, "name")
	var v outer
	if problems := m.Decode(&v); len(problems) > 0 {
		t.Fatal(problems)
	}
	if v.Name != "" || v.Count != 2 || !v.Flag || len(v.List) != 2 || v.List[0].Text != "a" || v.List[1].Text != "b" || strings.Join(v.Words, "") != "xy" {
		t.Errorf("merged %+v", v)
	}
	for path, want := range map[string]string{
		"list[0].text": `p:3:12: list[0].text: value "a": x`, "list[1].text": `c:2:11: list[1].text: value "b": x`, "count": `c:4:8: count: value "2": x`,
		"words[0]": `p:4:9: words[0]: value "x": x`, "list[1].absent": "c:2:5: list[1].absent: x", "name": "c:1:1: name: x",
	} {
		if got := m.Problem(path, "x", "").Error(); got != want {
			t.Errorf("problem at %s: %q, want %q", path, got, want)
		}
	}
}

func TestMergeLeavesItsInputsAlone(t *testing.T) {
	parent, child := parse(t, "p", "words: [x]\n"), parse(t, "c", "words: [y]\n")
	Merge(parent, child)
	for d, want := range map[*Document]string{parent: "x", child: "y"} {
		var v outer
		d.Decode(&v)
		if len(v.Words) != 1 || v.Words[0] != want {
			t.Errorf("%s: %v", d.File, v.Words)
		}
	}
}

func TestParseProblems(t *testing.T) {
	for text, want := range map[string]string{
		"":                  "f:1:1: the file is empty",
		"- a\n":             "f:1:1: the top level is not a mapping",
		"a: [\n":            "f:",
		"a: b\n---\nc: d":   "a second document starts here",
		"a: b\nc: d\n e: f": "f:3:1: is not valid YAML",
	} {
		_, err := Parse("f", []byte(text))
		var p *Problem
		if !errors.As(err, &p) || !strings.HasPrefix(err.Error(), want) && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v does not contain %q", text, err, want)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"packages", "mirror", "suite", "omit"}
	for word, want := range map[string]string{"package": "packages", "pakcages": "packages", "Mirror": "mirror", "siute": "suite", "omits": "omit", "kernel": "", "x": "", "": ""} {
		if got := Nearest(word, names); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package strict

import (
	"strings"
	"testing"
)

type item struct {
	Text string            `yaml:"text"`
	More map[string]string `yaml:"more,omitempty"`
}

type outer struct {
	Name  string   `yaml:"name"`
	Count uint32   `yaml:"count"`
	List  []item   `yaml:"list"`
	Words []string `yaml:"words"`
	Flag  bool     `yaml:"flag"`
}

func parse(t *testing.T, file, text string) *Document {
	t.Helper()
	d := Parse(file, []byte(text))
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestMergeRemembersFiles(t *testing.T) {
	parent := parse(t, "p", "name: p\nlist:\n  - {text: a}\nwords: [x]\ncount: 1\n")
	child := parse(t, "c", "list:\n  - text: b\nwords: [y]\ncount: 2\nflag: true\n")
	m := Merge(parent, child, "name")
	var v outer
	m.Decode(&v)
	if err := m.Err(); err != nil {
		t.Fatal(err)
	}
	if v.Name != "" || v.Count != 2 || !v.Flag || len(v.List) != 2 || v.List[0].Text != "a" || v.List[1].Text != "b" || strings.Join(v.Words, "") != "xy" {
		t.Errorf("merged %+v", v)
	}
	for path, want := range map[string]string{
		"list[0].text": `p:3:12: list[0].text: value "a": x`, "list[1].text": `c:2:11: list[1].text: value "b": x`, "count": `c:4:8: count: value "2": x`,
		"words[0]": `p:4:9: words[0]: value "x": x`, "list[1].absent": "c:2:5: list[1].absent: x", "name": "c:1:1: name: x",
	} {
		m.Decode(&v)
		m.Report(path, "x")
		if got := m.Err().Error(); got != want {
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

// What is wrong with a document and shows in the merged one too is said once; what is wrong
// with both documents is said of both.
func TestMergedProblemsAreSaidOnce(t *testing.T) {
	parent := parse(t, "p", "name: p\nlist: [{text: a}]\nflga: true\ncount: -1\n")
	child := parse(t, "c", "list: [{txet: b}, {text: true}]\n\n\n\n\nflga: true\n")
	var all Problems
	for _, d := range []*Document{parent, child, Merge(parent, child, "name")} {
		var v outer
		d.Decode(&v)
		all = append(all, d.Problems()...)
	}
	want := []string{
		`c:1:9: list[0].txet: is not a known key; did you mean "text"?; allowed: text, more`,
		`c:1:26: list[1].text: value "true": is a truth value, not text; put it in quotes if it is meant as text`,
		`c:6:1: flga: is not a known key; did you mean "flag"?; allowed: name, count, list, words, flag`,
		`p:3:1: flga: is not a known key; did you mean "flag"?; allowed: name, count, list, words, flag`,
		`p:4:8: count: value "-1": is out of range; allowed: 0 to 4294967295`,
	}
	if got := all.Err().Error(); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestMergeWithWhatCannotBeRead(t *testing.T) {
	good, bad := parse(t, "p", "count: 1\n"), Parse("c", []byte("- a"))
	for _, m := range []*Document{Merge(good, bad), Merge(bad, good)} {
		var v outer
		m.Decode(&v)
		if v.Count != 0 {
			t.Errorf("%+v", v)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package strict

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestDocumentsThatHoldNoMapping(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "f:1:1: the document is empty",
		"# nothing":                      "f:1:1: the document is empty",
		"---\n":                          "the document is empty",
		"- a\n":                          "f:1:1: the top level is a list, not a mapping",
		"text":                           "f:1:1: the top level is a single value, not a mapping",
		"a: [\n":                         "f:",
		"a: b: c":                        "f:1:1: is not valid YAML: mapping values are not allowed",
		"a: b\nc: d\n e: f":              "f:3:1: is not valid YAML",
		"a: b\nc: [d\ne: f":              "f:2:1: is not valid YAML: did not find expected ',' or ']'",
		"a: b\nc: {d\ne: f":              "f:2:1: is not valid YAML: did not find expected ',' or '}'",
		"a: [b\nc: d":                    "f:2:1: is not valid YAML: did not find expected ',' or ']'",
		"a:\n- b\n- c\nd: ]":             "f:4:1: is not valid YAML: did not find expected node content",
		"a: b\nc: [\n":                   "f:2:1: is not valid YAML: did not find expected node content",
		"a: b\nc: \"d":                   "f:2:1: is not valid YAML: found unexpected end of stream",
		"a: *hush":                       "f:1:1: is not valid YAML: an alias names no anchor",
		"a: \x01":                        "f:1:1: is not valid YAML",
		strings.Repeat("{inner: ", 70):   "is not valid YAML",
		strings.Repeat("[", 20_000):      "is not valid YAML",
		"a: b\n---\nc: d":                "f:2:1: a second document starts here",
		"name: x\n---\n- {a: b: c}\n...": "is not valid YAML",
	} {
		var v outer
		d := Decode("f", []byte(text), &v)
		d.Report("name", "is missing")
		var ps Problems
		err := d.Err()
		if !errors.As(err, &ps) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: error %v does not contain %q", text, err, want)
			continue
		}
		if strings.Contains(err.Error(), "hush") {
			t.Errorf("%.40q: a value is shown: %v", text, err)
		}
		if reported := strings.Contains(err.Error(), "is missing"); reported != strings.Contains(text, "---\nc") && !strings.HasPrefix(text, "name") {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

// A second document does not keep the first from being checked.
func TestASecondDocumentIsReportedBesideTheRest(t *testing.T) {
	var v outer
	err := Decode("f", []byte("nmae: x\ncount: 1\n---\nb: c\n"), &v).Err()
	if err == nil || v.Count != 1 || !strings.Contains(err.Error(), "f:1:1: nmae") || !strings.Contains(err.Error(), "f:3:1: a second document") {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestReport(t *testing.T) {
	var v outer
	d := Decode("f", []byte("name: x\nlist:\n- text: [a]\n- {text: b, mroe: {}}\nwords: x\ncount: 1\n"), &v)
	decoding := len(d.Problems())
	for _, path := range []string{"list[0].text", "list[0]", "list[0].text.more", "words", "words[3]", "list[1].mroe"} {
		if d.Report(path, "is bad"); len(d.Problems()) != decoding {
			t.Errorf("%s was reported again", path)
		}
	}
	d.Report("count", "is bad", "2", "3")
	d.Report("flag", "is missing")
	d.Report("more", "is missing")
	err := d.Err()
	for _, want := range []string{`f:6:8: count: value "1": is bad; allowed: 2, 3`, "f:1:1: flag: is missing", "f:1:1: more: is missing"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
	if !d.Has("list[1].text") || d.Has("flag") {
		t.Error("Has is wrong")
	}
	d.Decode(&v)
	if len(d.Problems()) != decoding {
		t.Errorf("decoding again does not start anew: %v", d.Err())
	}
}

func TestProblemsAsJSON(t *testing.T) {
	var v outer
	d := Decode("f", []byte("name: ''\ncuont: 1\n"), &v)
	d.Report("name", "is bad", "text")
	got, err := json.Marshal(d.Problems())
	want := `[{"file":"f","line":1,"column":7,"path":"name","value":"","message":"is bad","allowed":"text"},` +
		`{"file":"f","line":2,"column":1,"path":"cuont","message":"is not a known key; did you mean \"count\"?","allowed":"name, count, list, words, flag"}]`
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s\n%s", err, got, want)
	}
}

func TestValuesAreFitToBeShown(t *testing.T) {
	for text, want := range map[string]string{
		"|\n  first\n  second\n":  "first...",
		strings.Repeat("ä", 200):  strings.Repeat("ä", 80) + "...",
		"https://u:p@ss@x/y@z":    "https://...@x/y@z",
		`"tab` + "\\t" + `quote"`: "tab\tquote",
	} {
		var v outer
		d := Decode("f", []byte("name: "+text), &v)
		d.Report("name", "is bad")
		if ps := d.Problems(); len(ps) != 1 || ps[0].Value == nil || *ps[0].Value != want {
			t.Errorf("%.40q: %v", text, ps)
		}
		if strings.Contains(d.Err().Error(), "\n") {
			t.Errorf("the message takes more than one line: %v", d.Err())
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package strict

import (
	"errors"
	"strings"
	"testing"
	"time"
)

type secret string

func (s secret) Reveal() string { return string(s) }

type span time.Duration

func (s *span) UnmarshalText(b []byte) error {
	d, err := time.ParseDuration(string(b))
	if err != nil {
		return errors.New("is not a duration")
	}
	*s = span(d)
	return nil
}

type inner struct {
	Port  int32  `yaml:"port"`
	Token secret `yaml:"token"`
}

type doc struct {
	Name    string            `yaml:"name"`
	Count   int               `yaml:"count"`
	On      bool              `yaml:"on"`
	Wait    span              `yaml:"wait"`
	Maybe   *span             `yaml:"maybe"`
	List    []inner           `yaml:"list"`
	Opt     *[]inner          `yaml:"opt"`
	Map     map[string]string `yaml:"map"`
	Inner   inner             `yaml:"inner"`
	Hidden  string            `yaml:"-"`
	Secrets map[string]secret `yaml:"secrets"`
}

func TestDecode(t *testing.T) {
	var d doc
	doc, err := Decode("f", []byte(`# comment
name: 1.10
count: -3
on: true
wait: 90s
maybe: 1s
list:
- port: 1
- {port: 2, token: x}
opt: []
map: {a: b, c: 1}
inner:
`), &d)
	if err != nil {
		t.Fatal(err)
	}
	if d.Name != "1.10" || d.Count != -3 || !d.On || d.Wait != span(90*time.Second) || d.Maybe == nil || len(d.List) != 2 ||
		d.List[1].Token != "x" || d.Opt == nil || len(*d.Opt) != 0 || d.Map["c"] != "1" {
		t.Errorf("%+v", d)
	}
	p := doc.Problem("list[1].port", "is bad", "1")
	if p.Line != 9 || p.Column != 10 || p.Value != "2" {
		t.Errorf("%+v", p)
	}
	if p := doc.Problem("list[7].port", "is missing", ""); p.Line != 8 || p.Value != "" {
		t.Errorf("a path that is absent: %+v", p)
	}
	if !doc.Has("map.a") || doc.Has("map.b") {
		t.Error("Has is wrong about map")
	}
}

func TestDecodeReportsEverythingAtOnce(t *testing.T) {
	var d doc
	_, err := Decode("f.yaml", []byte(`nmae: x
count: many
on: yes
wait: soon
list: {port: 1}
inner:
  port: 99999999999
  token: [hush]
  token: again
map: [a]
secrets: {a: [b]}
? [x]
: y
name: &anchor x
`), &d)
	var ps Problems
	if !errors.As(err, &ps) {
		t.Fatalf("got %v", err)
	}
	want := []string{
		`f.yaml:1:1: nmae: unknown key, did you mean name? (value "nmae"; allowed: name, count, on, wait, maybe, list, opt, map, inner, secrets)`,
		`f.yaml:2:8: count: is not a whole number in range (value "many"; allowed: -9223372036854775808 to 9223372036854775807)`,
		`f.yaml:3:5: on: is not a boolean (value "yes"; allowed: true or false)`,
		`f.yaml:4:7: wait: is not a duration (value "soon")`,
		`f.yaml:5:7: list: is a mapping (allowed: a list)`,
		`f.yaml:7:9: inner.port: is not a whole number in range (value "99999999999"; allowed: -2147483648 to 2147483647)`,
		`f.yaml:8:10: inner.token: is a list (allowed: text)`,
		`f.yaml:9:3: inner.token: key is written twice, first on line 8 (allowed: each key once)`,
		`f.yaml:10:6: map: is a list (allowed: a mapping)`,
		`f.yaml:11:14: secrets.a: is a list (allowed: text)`,
		`f.yaml:12:3: has a key that is not plain text (allowed: plain keys)`,
	}
	if got := err.Error(); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestSecretsAreNotQuoted(t *testing.T) {
	var d doc
	dd, err := Decode("f", []byte("inner: {token: hush}\nsecrets: {a: hush}"), &d)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"inner.token", "secrets.a"} {
		if p := dd.Problem(path, "is bad", ""); p.Value != "" || p.Line == 0 {
			t.Errorf("%+v", p)
		}
	}
}

func TestDecodeRefusesWholeDocuments(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "the document is empty",
		"# nothing":                       "the document is empty",
		"a: b: c":                         "f:1:1: not YAML: mapping values are not allowed",
		"name: x\n---\nname: y":           "a second document follows",
		"- a":                             "is a list",
		"name: a\ninner: &x {}\nlist: *x": "anchors and aliases",
		"inner:\n  <<: {port: 1}":         "not plain text",
		strings.Repeat("{inner: ", 70):    "not YAML",
	} {
		var d doc
		if _, err := Decode("f", []byte(text), &d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("name: a\nlist: [{port: 1}]")
	f.Add("? [a]\n: b")
	f.Add("a: &a [*a]")
	f.Fuzz(func(t *testing.T, text string) {
		var d doc
		_, err := Decode("f", []byte(text), &d)
		var ps Problems
		if err != nil && !errors.As(err, &ps) {
			t.Errorf("error is a %T", err)
		}
		for _, p := range ps {
			if p.Line < 1 || p.Message == "" {
				t.Errorf("a problem without place or message: %+v", p)
			}
		}
	})
}

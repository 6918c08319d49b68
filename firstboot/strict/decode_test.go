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

type chain struct {
	Next *chain `yaml:"next"`
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
	private string
	Secrets map[string]secret `yaml:"secrets"`
	Chain   chain             `yaml:"chain"`
	Size    uint16            `yaml:"size"`
}

const docKeys = "name, count, on, wait, maybe, list, opt, map, inner, secrets, chain, size"

func TestDecode(t *testing.T) {
	var v doc
	d := Decode("f", []byte(`# comment
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
size: 65535
`), &v, EmptyIsZero)
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	if v.Name != "1.10" || v.Count != -3 || !v.On || v.Wait != span(90*time.Second) || v.Maybe == nil || len(v.List) != 2 ||
		v.List[1].Token != "x" || v.Opt == nil || len(*v.Opt) != 0 || v.Map["c"] != "1" || v.Size != 65535 || v.private != "" {
		t.Errorf("%+v", v)
	}
	if !d.Has("map.a") || d.Has("map.b") {
		t.Error("Has is wrong about map")
	}
	d.Report("list[1].port", "is bad", "1")
	d.Report("list[7].port", "is missing")
	d.Report("inner", "is missing")
	want := "f:8:1: list[7].port: is missing\n" + `f:9:10: list[1].port: value "2": is bad; allowed: 1` + "\nf:12:7: inner: is missing"
	if got := d.Err().Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDecodeReportsEverythingAtOnce(t *testing.T) {
	var v doc
	err := Decode("f.yaml", []byte(`nmae: x
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
opt: [a]
maybe:
size: 0x10
private: x
"": x
chain: !local {}
`), &v).Err()
	var ps Problems
	if !errors.As(err, &ps) {
		t.Fatalf("got %v", err)
	}
	want := []string{
		`f.yaml:1:1: nmae: is not a known key; did you mean "name"?; allowed: ` + docKeys,
		`f.yaml:2:8: count: value "many": is not a whole number; allowed: -9223372036854775808 to 9223372036854775807`,
		`f.yaml:3:5: on: value "yes": is not a truth value; allowed: true, false`,
		`f.yaml:4:7: wait: value "soon": is not a duration`,
		`f.yaml:5:7: list: is a mapping, not a list; allowed: a list of mappings`,
		`f.yaml:7:9: inner.port: value "99999999999": is out of range; allowed: -2147483648 to 2147483647`,
		`f.yaml:8:10: inner.token: is a list, not text`,
		`f.yaml:9:3: inner.token: was already given on line 8`,
		`f.yaml:10:6: map: is a list, not a mapping; allowed: a mapping of names to text`,
		`f.yaml:11:14: secrets.a: is a list, not text`,
		`f.yaml:12:3: has a key that is not plain text`,
		`f.yaml:14:7: name: value "x": anchors and aliases are not supported; write the value out`,
		`f.yaml:15:7: opt[0]: is a single value, not a mapping; allowed: port, token`,
		`f.yaml:16:7: maybe: is empty; leave the key out or give it a value; allowed: text`,
		`f.yaml:17:7: size: value "0x10": is not a whole number; allowed: 0 to 65535`,
		`f.yaml:18:1: private: is not a known key; allowed: ` + docKeys,
		`f.yaml:19:1: is not a known key; allowed: ` + docKeys,
		`f.yaml:20:8: chain: tags are not supported; write the value without its tag`,
	}
	if got := err.Error(); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

// What is read differently by other programs is not read at all.
func TestScalars(t *testing.T) {
	for text, want := range map[string]string{
		"count: 010":          "is not a whole number",
		"count: 0x1F":         "is not a whole number",
		"count: 1_000":        "is not a whole number",
		"count: +1":           "is not a whole number",
		"count: 1.0":          "is not a whole number",
		"count: '1'":          "is not a whole number",
		"count: -0":           "is not a whole number",
		"count: [1]":          "is a list, not a whole number",
		"size: -1":            "is out of range; allowed: 0 to 65535",
		"size: 65536":         "is out of range; allowed: 0 to 65535",
		"on: True":            "is not a truth value",
		"on: 'true'":          "is not a truth value",
		"on: on":              "is not a truth value",
		"on: {a: b}":          "is a mapping, not a truth value",
		"name: true":          "is a truth value, not text; put it in quotes",
		"name: !!str true":    "tags are not supported",
		"name: !!null x":      "tags are not supported",
		"map: {a: ~}":         "is empty",
		"inner: {<<: {}}":     "has a key that is not plain text",
		"map: {&a b: c}":      "has a key that is not plain text",
		"map: {!!str b: c}":   "has a key that is not plain text",
		"inner: &x {}":        "anchors and aliases",
		"opt: &x []\nmap: *x": "opt: anchors and aliases are not supported; write the value out\n" + "f:2:6: map: anchors and aliases",
		"chain: " + strings.Repeat("{next: ", 70) + "{}" + strings.Repeat("}", 70): "is nested too deeply; allowed: at most 64 levels",
		"count: 0":         "",
		"size: 0":          "",
		"on: false":        "",
		"name: 'true'":     "",
		"name: 2026-01-01": "",
		"name: yes":        "",
		"name: ''":         "",
		"name: 0x10":       "",
	} {
		var v doc
		err := Decode("f", []byte(text), &v).Err()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.40s: got %v, want %q", text, err, want)
		}
	}
}

// No value that is a secret, or stands where one belongs, is shown.
func TestSecretsAreNotQuoted(t *testing.T) {
	for _, text := range []string{
		"inner: {token: hush}\nsecrets: {a: hush}",
		"inner: {token: {hush: x}}", "inner: {token: [hush]}", "inner: {token: &a hush}", "inner: {token: !x hush}", "inner: {token: *hush}",
		"inner: hush", "list: hush", "list: [hush]", "opt: hush", "secrets: hush", "inner: {tokne: hush}", "inner: {token: a, token: hush}",
		"inner:\n  token: hush\n  hush\n", "inner: {token: true}",
	} {
		var v doc
		d := Decode("f", []byte(text), &v)
		for _, path := range []string{"inner.token", "secrets.a", "list[0]", "inner", "opt"} {
			d.Report(path, "is bad")
		}
		ps := d.Problems()
		if len(ps) == 0 || strings.Contains(ps.Error(), "hush") {
			t.Errorf("%s:\n%v", text, ps)
		}
		for _, p := range ps {
			if p.Value != nil || p.Line == 0 {
				t.Errorf("%s: %+v", text, p)
			}
		}
	}
}

func TestUnsupportedTypesAreAMistakeOfTheProgram(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a channel was decoded")
		}
	}()
	var v struct {
		C chan int `yaml:"c"`
	}
	Decode("f", []byte("c: x"), &v)
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{"name: a\nlist: [{port: 1}]", "? [a]\n: b", "a: &a [*a]", "inner: {token: *hush}", "chain: {next: {next: {}}}\n---\nb: c",
		"map: {a.b: c, d: |\n e}", "\"a\\nb\": c", "size: 1\nsize: 2\nnmae: !x y\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var v doc
		d := Decode("f", []byte(text), &v, EmptyIsZero)
		for path := range d.places {
			d.Report(path, "is bad")
		}
		err := d.Err()
		var ps Problems
		if err != nil && !errors.As(err, &ps) {
			t.Errorf("error is a %T", err)
		}
		for _, p := range ps {
			if p.File != "f" || p.Line < 1 || p.Column < 1 || p.Message == "" {
				t.Errorf("a problem without place or message: %+v", p)
			}
		}
		if err != nil && strings.Count(err.Error(), "\n") != len(ps)-1 {
			t.Errorf("%d problems are not a line each:\n%v", len(ps), err)
		}
	})
}

func FuzzMerge(f *testing.F) {
	f.Add("words: [a]\nname: x", "words: [b]\nlist: [{text: c}]")
	f.Add("? [a]\n: b", "a: &a [*a]")
	f.Fuzz(func(t *testing.T, parent, child string) {
		p, c := Parse("p", []byte(parent)), Parse("c", []byte(child))
		var v, again outer
		m := Merge(p, c, "name")
		m.Decode(&v)
		for _, problem := range m.Problems() {
			if problem.File != "p" && problem.File != "c" || problem.Line < 1 {
				t.Errorf("%+v", problem)
			}
		}
		if c.Decode(&again); c.Err() == nil && m.Err() == nil && v.Name != again.Name {
			t.Errorf("a key that is not inherited is %q, not %q", v.Name, again.Name)
		}
	})
}

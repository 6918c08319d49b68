// SPDX-License-Identifier: Apache-2.0

package stricttest

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/strict"
)

type inner struct {
	Text  string            `yaml:"text"`
	Names map[string]string `yaml:"names,omitempty"`
	Lists [][]string        `yaml:"lists"`
}

type outer struct {
	Count *int    `yaml:"count"`
	One   inner   `yaml:"one"`
	Many  []inner `yaml:"many"`
	Wait  time.Duration
	Skip  bool `yaml:"-"`
}

type tree struct {
	Leaf string `yaml:"leaf"`
	Next []tree `yaml:"next"`
}

// A type within itself has no end.
func TestTypeWithinItself(t *testing.T) {
	if got := strings.Join(Of[tree]().Paths(), " "); got != "leaf next" {
		t.Error(got)
	}
}

func TestMissing(t *testing.T) {
	f := Of[outer]()
	if got := strings.Join(f.Paths(), " "); got != "count many many[0].lists many[0].names many[0].text one one.lists one.names one.text" {
		t.Error(got)
	}
	want := []string{"count", "many[0].lists", "many[0].names", "many[0].text", "one.lists", "one.names", "one.text"}
	if got := f.Missing(nil); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for _, path := range []string{"many[3].names.a.b c", "one", "one.lists[0][2]", "nothing", "many[1].nothing", "count.x"} {
		f.Saw(path)
	}
	want = []string{"count needs no exception", "many[0].lists", "many[0].text", "nothing needs no exception", "one.names"}
	if got := f.Missing(map[string]string{"one.text": "any text will do", "nothing": "?", "count": "?"}); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestWrongKinds(t *testing.T) {
	documents := Of[outer]().WrongKinds()
	if documents["one.lists"] != "{one: {lists: x}}" || documents["count"] != "{count: [x]}" || documents["many[0].text"] != "{many: [{text: [x]}]}" || len(documents) != 9 {
		t.Errorf("%q", documents)
	}
	for path, text := range documents {
		var ps strict.Problems
		if err := strict.Decode("f", []byte(text), &outer{}).Err(); !errors.As(err, &ps) || !slices.ContainsFunc(ps, func(p strict.Problem) bool { return p.Path == path }) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestElsewhere(t *testing.T) {
	f := Of[outer]()
	for _, c := range []struct{ text, path, to, want string }{
		{"{one: {text: a}}", "one.text", "many[0].text", "{many: [{text: a}]}"},
		{"{many: [{text: a}, {text: b}], count: 0x2}", "many[1].names.x", "one.names.x", "{many: [{text: a}], count: 0x2, one: {text: b}}"},
		{"one: {text: 'a: b'}\nmany: [{names: {}}, {}]", "one.lists[0][1]", "many[0].lists[0][1]", "many: [{text: 'a: b'}, {}]"},
		{"{one: {text: a}, many: x}", "one.text", "many[0].text", "{many: [{text: a}]}"},
	} {
		got := f.Elsewhere(c.text, c.path)
		if len(got) != 1 || strings.Join(strings.Fields(got[c.to]), " ") != c.want {
			t.Errorf("%s: %q", c.text, got)
		}
	}
	for text, path := range map[string]string{"{one: {text: a}}": "count", "{count: 1}": "one.text", "": "one.text", "{": "one.text", "{many: []}": "many[0].text", "{many: [{}]}": "many"} {
		if got := f.Elsewhere(text, path); len(got) != 0 {
			t.Errorf("%s %s: %q", text, path, got)
		}
	}
}

// A validator that forgets a place where a type is used is found out, unless the rule is bound to
// the other one.
func TestRefused(t *testing.T) {
	parse := func(places ...string) func(string) error {
		return func(text string) error {
			v := &outer{}
			doc := strict.Decode("f", []byte(text), v)
			for i, in := range append(v.Many, v.One) {
				path := "one.text"
				if i < len(v.Many) {
					path = "many[0].text"
				}
				if in.Text == "bad" && slices.Contains(places, path) {
					doc.Report(path, "is bad")
				}
			}
			return doc.Err()
		}
	}
	for _, text := range []string{"{one: {text: bad}}", "{many: [{text: bad}]}"} {
		f := Of[outer]()
		if err := f.Refused(text, "is bad", parse("one.text", "many[0].text")); err != nil || !f.seen["one.text"] || !f.seen["many[0].text"] {
			t.Errorf("%v %v", err, f.seen)
		}
		if err := f.Refused(text, "is worse", parse("one.text", "many[0].text")); err == nil || !strings.Contains(err.Error(), "want is worse") {
			t.Error(err)
		}
	}
	f := Of[outer]()
	if err := f.Refused("{one: {text: bad}}", "is bad", parse("one.text")); err == nil || !strings.HasSuffix(err.Error(), "want many[0].text: is bad") || f.seen["many[0].text"] {
		t.Error(err)
	}
	f.Bound = map[string]string{"is bad": "alone only", "is worse": "?"}
	if err := f.Refused("{one: {text: bad}}", "is bad", parse("one.text")); err != nil {
		t.Error(err)
	}
	if got := f.Missing(nil); !slices.Contains(got, "is worse is bound to no place") || slices.Contains(got, "is bad is bound to no place") {
		t.Errorf("%q", got)
	}
}

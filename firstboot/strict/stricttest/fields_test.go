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

func TestMissing(t *testing.T) {
	f := Of[outer]()
	if got := strings.Join(f.Names(), " "); got != "inner.lists inner.names inner.text outer.count outer.many outer.one" {
		t.Error(got)
	}
	want := []string{"inner.lists (at one.lists)", "inner.names (at one.names)", "inner.text (at one.text)", "outer.count (at count)"}
	if got := f.Missing(nil); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for _, path := range []string{"many[3].names.a.b c", "one", "one.lists[0][2]", "nothing", "many[1].nothing", "count.x"} {
		f.Saw(path)
	}
	if got := f.Missing(map[string]string{"inner.text": "any text will do", "inner.nothing": "?", "outer.count": "?"}); !slices.Equal(got, []string{"inner.nothing needs no exception", "outer.count needs no exception"}) {
		t.Errorf("%q", got)
	}
}

func TestWrongKinds(t *testing.T) {
	documents := Of[outer]().WrongKinds()
	if documents["one.lists"] != "{one: {lists: x}}" || documents["count"] != "{count: [x]}" || len(documents) != 6 {
		t.Errorf("%q", documents)
	}
	for path, text := range documents {
		var ps strict.Problems
		if err := strict.Decode("f", []byte(text), &outer{}).Err(); !errors.As(err, &ps) || !slices.ContainsFunc(ps, func(p strict.Problem) bool { return p.Path == path }) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

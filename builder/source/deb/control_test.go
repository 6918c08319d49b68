// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"slices"
	"strings"
	"testing"
)

func collect(t *testing.T, data string, comments bool) ([]Paragraph, error) {
	t.Helper()
	var out []Paragraph
	err := Paragraphs("test", data, comments, func(p Paragraph) error {
		out = append(out, slices.Clone(p))
		return nil
	})
	return out, err
}

func TestParagraphs(t *testing.T) {
	got, err := collect(t, "\n\nPackage: a\nDescription: first\n second\n .\n\tthird\nx-y: \n \t\nPackage:b\n\n\n", false)
	if err != nil {
		t.Fatal(err)
	}
	want := []Paragraph{
		{{"Package", "a", 3}, {"Description", "first\n second\n .\n\tthird", 4}, {"x-y", "", 8}},
		{{"Package", "b", 10}},
	}
	if len(got) != len(want) || !slices.Equal(got[0], want[0]) || !slices.Equal(got[1], want[1]) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if v := got[0].Get("PACKAGE"); v != "a" {
		t.Errorf("Get ignores case: got %q", v)
	}
	if lines := got[0][1].Lines(); !slices.Equal(lines, []string{"first", "second", ".", "third"}) {
		t.Errorf("Lines = %q", lines)
	}
}

func TestParagraphsErrors(t *testing.T) {
	for name, c := range map[string]struct{ data, want string }{
		"stray continuation": {" x\n", `test:1:1: " x" continues a field, but none was started`},
		"after a blank line": {"A: b\n\n c\n", `test:3:1: " c" continues`},
		"no colon":           {"A: b\nnonsense\n", `test:2:1: "nonsense" is neither`},
		"empty name":         {": b\n", `test:1:1: "" is not a field name`},
		"leading hyphen":     {"-A: b\n", `"-A" is not a field name`},
		"blank in name":      {"A B: c\n", `' ' is not allowed`},
		"repeated":           {"A: b\na: c\n", `test:2:1: field "a" was already given on line 1`},
		"comment":            {"# x\nA: b\n", "test:1:1:"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := collect(t, c.data, false); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v does not contain %q", err, c.want)
			}
		})
	}
	if got, err := collect(t, "A: b\n# x\n c\n", true); err != nil || got[0][0].Value != "b\n c" {
		t.Errorf("a comment inside a field: %+v, %v", got, err)
	}
}

func FuzzParagraphs(f *testing.F) {
	f.Add("Package: a\nDepends: b (>= 1),\n c\n\nPackage: d\n", true)
	f.Add("# comment\nTypes: deb\n", true)
	f.Fuzz(func(t *testing.T, data string, comments bool) {
		var b strings.Builder
		var fields int
		err := Paragraphs("f", data, comments, func(p Paragraph) error {
			for _, field := range p {
				fields++
				if field.Name == "" || field.Line < 1 {
					t.Fatalf("bad field %+v", field)
				}
				b.WriteString(field.Name + ": " + field.Value + "\n")
			}
			b.WriteString("\n")
			return nil
		})
		if err != nil {
			return
		}
		// What was read, written again, reads the same.
		again := 0
		if err := Paragraphs("again", b.String(), false, func(p Paragraph) error { again += len(p); return nil }); err != nil || again != fields {
			t.Fatalf("%d fields became %d, %v: %q", fields, again, err, b.String())
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

// Package docs holds the documents to the code: examples of commands are parsed by the
// commands, examples of files are decoded by what reads them, and links lead somewhere.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root of the checkout, seen from this directory.
const root = "../.."

// fence is a fenced code block: ```language label... up to the closing ```.
type fence struct {
	file     string // of the document, below the root
	line     int    // of the opening, from 1
	language string
	labels   []string
	text     string
}

// label returns the value of a label "name=value", or "yes" for a bare "name".
func (f fence) label(name string) string {
	for _, l := range f.labels {
		if key, value, ok := strings.Cut(l, "="); key == name {
			if !ok {
				return "yes"
			}
			return value
		}
	}
	return ""
}

// fences returns the code blocks of a document.
func fences(file, text string) []fence {
	var all []fence
	var open *fence
	for i, line := range strings.Split(text, "\n") {
		mark, isMark := strings.CutPrefix(strings.TrimLeft(line, " "), "```")
		switch {
		case isMark && open == nil:
			open = &fence{file: file, line: i + 1}
			if words := strings.Fields(mark); len(words) > 0 {
				open.language, open.labels = words[0], words[1:]
			}
		case isMark:
			all = append(all, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	return all
}

// documents returns every Markdown file of the repository by its path below the root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{".git", "out", "testdata"}, d.Name()) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".md") {
			return nil
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		all[filepath.ToSlash(rel)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "docs/architecture.md"} {
		if all[name] == "" {
			t.Fatalf("%s was not found: the search looked in the wrong place", name)
		}
	}
	return all
}

// allFences returns the code blocks of every document, in a stable order.
func allFences(t *testing.T) []fence {
	t.Helper()
	docs := documents(t)
	names := make([]string, 0, len(docs))
	for name := range docs {
		names = append(names, name)
	}
	slices.Sort(names)
	var all []fence
	for _, name := range names {
		all = append(all, fences(name, docs[name])...)
	}
	return all
}

func TestFences(t *testing.T) {
	got := fences("x.md", "a\n```yaml file=a/b.yaml node\nk: v\n```\nb\n   ```\n   x\n   ```\n")
	if len(got) != 2 || got[0].language != "yaml" || got[0].label("file") != "a/b.yaml" || got[0].label("node") != "yes" ||
		got[0].text != "k: v\n" || got[0].line != 2 || got[1].language != "" || got[1].label("file") != "" {
		t.Errorf("%+v", got)
	}
}

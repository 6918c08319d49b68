// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRecipe(t *testing.T) {
	root := component(t, "sample", good, map[string]string{"main.go": "package main\n", "sub/x.go": "package sub\n"})
	c, err := Load(root, "sample")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, Directory, "sample")
	recipe := func() string {
		t.Helper()
		r, err := c.Recipe()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := recipe()
	same := func(what string, change func() error) {
		t.Helper()
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if recipe() != first {
			t.Errorf("%s changed the recipe", what)
		}
	}
	write := func(name, content string) func() error {
		return func() error { return os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644) }
	}
	same("a test", write("main_test.go", "package main\n"))
	same("a umask", func() error { return os.Chmod(filepath.Join(dir, "main.go"), 0o600) })

	seen := map[string]string{first: "the original"}
	for _, c := range []struct {
		what   string
		change func() error
	}{
		{"content", write("main.go", "package main // changed\n")},
		{"a new file", write("new.go", "")},
		{"a new name", func() error { return os.Rename(filepath.Join(dir, "new.go"), filepath.Join(dir, "sub/new.go")) }},
		{"an executable bit", func() error { return os.Chmod(filepath.Join(dir, "main.go"), 0o755) }},
	} {
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		r := recipe()
		if other := seen[r]; other != "" {
			t.Errorf("%s gives the same recipe as %s", c.what, other)
		}
		seen[r] = c.what
	}
}

// The recipe must not depend on where the checkout is.
func TestRecipeIsRelative(t *testing.T) {
	var recipes []string
	for range 2 {
		c, err := Load(component(t, "sample", good, nil), "sample")
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.Recipe()
		if err != nil {
			t.Fatal(err)
		}
		recipes = append(recipes, r)
	}
	if recipes[0] != recipes[1] {
		t.Error("the same files in two places have different recipes")
	}
}

func TestKeyCoversEverything(t *testing.T) {
	base := [4]string{"recipe", "go1.26.8", "linux", "amd64"}
	keys := map[string]bool{Key(base[0], base[1], base[2], base[3]): true}
	for i := range base {
		changed := base
		changed[i] += "x"
		keys[Key(changed[0], changed[1], changed[2], changed[3])] = true
	}
	keys[Key("a", "bc", "d", "e")] = true
	keys[Key("ab", "c", "d", "e")] = true
	if len(keys) != 7 {
		t.Errorf("%d different keys of 7", len(keys))
	}
	for k := range keys {
		if len(k) != 64 {
			t.Errorf("%q is not a SHA-256", k)
		}
	}
}

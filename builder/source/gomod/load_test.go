// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// component writes a checkout with one component and returns its root.
func component(t *testing.T, name, description string, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, Directory, name)
	all := map[string]string{
		FileName: description,
		"go.mod": "module example.org/checkout/" + name + "\n\ngo 1.26.0\n\nrequire example.org/upstream v1.2.3\n",
	}
	for n, content := range files {
		all[n] = content
	}
	for n, content := range all {
		file := filepath.Join(dir, n)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const good = `name: sample
description: a sample
module:
  path: example.org/upstream
  version: v1.2.3
programs:
  - package: .
    path: /usr/bin/sample
    links: [/usr/bin/other]
`

func TestLoad(t *testing.T) {
	c, err := Load(component(t, "sample", good, nil), "sample")
	if err != nil {
		t.Fatal(err)
	}
	if got := c.expand("${version} ${number} ${major} ${minor}"); got != "v1.2.3 1.2.3 1 2" {
		t.Errorf("expanded to %q", got)
	}
}

// Every component of the repository is valid, and its recipe can be computed.
func TestComponents(t *testing.T) {
	names, err := Names(checkout)
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 9 {
		t.Errorf("found only %v", names)
	}
	for _, name := range names {
		c, err := Load(checkout, name)
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := c.Recipe(); err != nil {
			t.Error(err)
		}
	}
}

func TestLoadReportsEveryProblem(t *testing.T) {
	const bad = `name: other
description: ""
module:
  path: Not A Path
  version: latest
tags: ["a b"]
variables:
  nodot: x
  a/b.c: ${nothing}
programs:
  - package: ../up
    path: usr/bin/sample
    links: [/usr/bin/../x, /usr/bin/y, /usr/bin/y]
transforms:
  - module: example.org/upstream
    drop: [/etc]
inputs: [a]
checks:
  - command: [missing]
    output: x
`
	_, err := Load(component(t, "sample", bad, nil), "sample")
	if fault.ClassOf(err) != fault.Config {
		t.Fatalf("got class %v: %v", fault.ClassOf(err), err)
	}
	for _, want := range []string{
		`component.yaml:1:7: name: value "other": is not the name of the directory; allowed: sample`,
		`description: value "": is missing`,
		`module.path: value "Not A Path": is not a module path: invalid char ' '`,
		`module.version: value "latest": is not an exact version; allowed: a version such as v1.2.3`,
		`component.yaml:6:8: tags[0]: value "a b": is not a build tag; allowed: letters`,
		`component.yaml:8:10: variables.nodot: value "x": is not set by the name of a variable; allowed: an import path`,
		`variables.a/b.c: value "${nothing}": has ${nothing}; allowed: ${version}, ${number}`,
		`programs[0].package: value "../up": is not a package; allowed: ".", a path`,
		`programs[0].path: value "usr/bin/sample": is not a clean absolute path`,
		`programs[0].links[0]: value "/usr/bin/../x": is not a clean absolute path`,
		`programs[0].links[2]: value "/usr/bin/y": is already the path of programs[0].links[1]`,
		`transforms[0].drop[0]: value "/etc": is not a clean relative path`,
		"inputs: can only be used with module.checkout",
		`checks[0].command[0]: value "missing": is not the name of a program or link; allowed: sample, x, y, y`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing from the error: %s", want)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
}

func TestLoadComparesWithGoMod(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"version: v1.2.3", "version: v1.2.4", `module.version: value "v1.2.4": is not what go.mod requires of example.org/upstream; allowed: v1.2.3`},
		{"programs:", "transforms:\n  - module: example.org/absent\n    overlay: nowhere\nprograms:", `transforms[0].module: value "example.org/absent": is not a module that go.mod requires`},
		{"programs:", "transforms:\n  - module: example.org/upstream\n    overlay: nowhere\nprograms:", `transforms[0].overlay: value "nowhere": is not a directory of the component`},
	} {
		_, err := Load(component(t, "sample", strings.Replace(good, c.from, c.to, 1), nil), "sample")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.to, err, c.want)
		}
	}
}

func TestDecodeIsStrict(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "name: a\nprogram: []\n", `f.yaml:2:1: program: is not a known key; did you mean "programs"?; allowed: name, description,`},
		{"nested unknown key", "programs:\n  - pkg: x\n", `f.yaml:2:5: programs[0].pkg: is not a known key; allowed: package, path, links, tags`},
		{"twice", "name: a\nname: b\n", `f.yaml:2:1: name: was already given on line 1`},
		{"wrong kind", "programs: x\n", `f.yaml:1:11: programs: value "x": is a single value, not a list; allowed: a list of mappings`},
		{"wrong kind of value", "name: [a]\n", "f.yaml:1:7: name: is a list, not text"},
		{"not a boolean", "module: {checkout: perhaps}\n", `f.yaml:1:20: module.checkout: value "perhaps": is not a truth value; allowed: true, false`},
		{"empty", "", "the document is empty"},
		{"not YAML", "a: [", "f.yaml:1:1: is not valid YAML"},
	} {
		_, doc := decode("f.yaml", []byte(c.text))
		err := doc.Err()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "gomod.") {
			t.Errorf("%s: the message shows a Go type: %v", c.name, err)
		}
	}
}

func TestNoSuchComponent(t *testing.T) {
	for _, name := range []string{"none", "../escape", ""} {
		if _, err := Load(checkout, name); fault.ClassOf(err) != fault.Config {
			t.Errorf("%q: got %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("transforms: [{module: a, drop: [b]}]\nchecks: [{command: [a], output: b}]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, doc := decode("f.yaml", data)
		decoded := doc.Err() == nil
		c.validate(doc, "sample")
		if decoded {
			c.ldflags()
		}
	})
}

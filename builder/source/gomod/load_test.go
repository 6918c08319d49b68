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
		`component.yaml:1:7: name is "other"; it must be that of the directory, "sample"`,
		"description is missing",
		`module.path is "Not A Path"`,
		`module.version is "latest"; it must be an exact version`,
		`tags has "a b"`,
		`variables has key "nodot"`,
		"variables[a/b.c] has ${nothing}; allowed are ${version}",
		`programs[0].package is "../up"`,
		`programs[0].path is "usr/bin/sample"; it must be a clean absolute path`,
		`programs[0].links[0] is "/usr/bin/../x"`,
		`programs[0].links[2] is "/usr/bin/y", which programs[0].links[1] is already`,
		`transforms[0].drop[0] is "/etc"`,
		"inputs can only be used with module.checkout",
		`checks[0].command is ["missing"]; it must start with one of`,
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
		{"version: v1.2.3", "version: v1.2.4", `module.version is "v1.2.4"; go.mod requires example.org/upstream "v1.2.3"`},
		{"programs:", "transforms:\n  - module: example.org/absent\n    overlay: nowhere\nprograms:", `transforms[0].module is "example.org/absent", which go.mod does not require`},
		{"programs:", "transforms:\n  - module: example.org/upstream\n    overlay: nowhere\nprograms:", `transforms[0].overlay is "nowhere", which is not a directory`},
	} {
		_, err := Load(component(t, "sample", strings.Replace(good, c.from, c.to, 1), nil), "sample")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.to, err, c.want)
		}
	}
}

func TestDecodeIsStrict(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "name: a\nprogram: []\n", `f.yaml:2:1: unknown key "program" in the file; allowed are checks, description,`},
		{"nested unknown key", "programs:\n  - pkg: x\n", `f.yaml:2:5: unknown key "pkg" in programs[0]; allowed are links, package, path, tags`},
		{"twice", "name: a\nname: b\n", `f.yaml:2:1: key "name" appears twice`},
		{"wrong kind", "programs: x\n", "f.yaml:1:11: programs is a single value; it must be a list"},
		{"wrong kind of value", "name: [a]\n", "name is a list; it must be a single value"},
		{"not a boolean", "module: {checkout: perhaps}\n", "cannot unmarshal"},
		{"empty", "", "the file is empty"},
		{"not YAML", "a: [", "f.yaml"},
	} {
		_, err := decode("f.yaml", []byte(c.text))
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
		c, err := decode("f.yaml", data)
		if err == nil {
			c.validate("sample")
			c.ldflags()
		}
	})
}

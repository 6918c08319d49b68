// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/cluster"
	"github.com/imgbuild/imgbuild/builder/fault"
)

// says looks for texts on standard output.
func (o outcome) says(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(o.out, text) {
			t.Errorf("standard output does not contain %q:\n%s", text, o.out)
		}
	}
}

func TestClusterFromInitToRender(t *testing.T) {
	dir := t.TempDir()
	file, demo := filepath.Join(dir, "cluster.yaml"), filepath.Join(dir, "demo")
	o := run(t, "cluster", "init", "--name", "demo", "--control-planes", "3", "--workers", "2")
	o.want(t, 0)
	if err := os.WriteFile(file, []byte(o.out), 0o644); err != nil {
		t.Fatal(err)
	}
	o = run(t, "cluster", "check", file)
	o.want(t, 0)
	o.says(t, "3 control planes and 2 workers")
	o = run(t, "cluster", "render", file, "-o", demo, "--dry-run")
	o.want(t, 0)
	o.says(t, "nothing written")
	if _, err := os.Stat(demo); err == nil {
		t.Error("a dry run made the directory")
	}
	o = run(t, "cluster", "render", file, "-o", demo)
	o.want(t, 0)
	o.says(t, "control plane demo-cp-3", " 0 changed, 0 removed, 0 unchanged")
	var r cluster.Result
	o = run(t, "cluster", "render", file, "-o", demo, "--json")
	o.want(t, 0)
	if err := json.Unmarshal([]byte(o.out), &r); err != nil || len(r.Changes) == 0 {
		t.Fatalf("%v: %s", err, o.out)
	}
	for _, c := range r.Changes {
		if c.Action != cluster.Unchanged {
			t.Errorf("%+v", c)
		}
	}
}

func TestClusterProblems(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cluster.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: x\nkind: Cluster\nnmae: demo\nhosts: [{name: a, role: boss}]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	o := run(t, "cluster", "check", file)
	o.want(t, fault.Config)
	for _, want := range []string{file + `:1:13: apiVersion: value "x"`, file + `:3:1: nmae: is not a known key; did you mean "name"?`,
		`hosts[0].role: value "boss": is not known; allowed: control-plane, worker`, "next: "} {
		if !strings.Contains(o.stderr, want) {
			t.Errorf("no %q in\n%s", want, o.stderr)
		}
	}
	o = run(t, "cluster", "check", "--json", file)
	o.want(t, fault.Config)
	var outcome struct {
		Problems []struct {
			Path string
			Line int
		}
	}
	if err := json.Unmarshal([]byte(o.out), &outcome); err != nil || len(outcome.Problems) < 3 || outcome.Problems[1].Path != "apiVersion" || outcome.Problems[1].Line != 1 || strings.Contains(o.out, `"hosts": 0`) {
		t.Errorf("%v: %s", err, o.out)
	}
	run(t, "cluster").want(t, fault.Usage)
	run(t, "cluster", "check").want(t, fault.Usage)
	run(t, "cluster", "check", "/nonexistent.yaml").want(t, fault.Usage)
	run(t, "cluster", "init", "--control-planes", "0").want(t, fault.Usage)
}

// A host goes and another comes: the summary says which files and what to do, and programs
// learn the same.
func TestClusterChanges(t *testing.T) {
	dir := t.TempDir()
	file, demo := filepath.Join(dir, "cluster.yaml"), filepath.Join(dir, "demo")
	starter := run(t, "cluster", "init", "--control-planes", "1", "--workers", "1").out
	render := func(text string, args ...string) outcome {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		o := run(t, append([]string{"cluster", "render", file, "-o", demo}, args...)...)
		o.want(t, 0)
		return o
	}
	render(starter)
	changed := strings.ReplaceAll(starter, "demo-w-1", "demo-w-9")
	var r cluster.Result
	if o := render(changed, "--json", "--dry-run"); json.Unmarshal([]byte(o.out), &r) != nil || !r.DryRun {
		t.Errorf("%s", o.out)
	}
	actions := map[string]cluster.Action{}
	for _, c := range r.Changes {
		actions[c.File] = c.Action
	}
	if actions["hosts/demo-w-1.ign"] != cluster.Removed || actions["hosts/demo-w-9.ign"] != cluster.Added || actions["hosts/demo-cp-1.ign"] != cluster.Changed {
		t.Errorf("%v", actions)
	}
	o := render(changed)
	o.says(t, "removed", "worker demo-w-1", "added", "worker demo-w-9", "  /etc/hosts changed", "kubectl delete node demo-w-1", "boot worker demo-w-9 with "+demo)
	render(changed).says(t, ": 0 added, 0 changed, 0 removed,")
	run(t, "cluster", "check", file).says(t, "1 control plane and 1 worker is fine")
}

func TestClusterCompletion(t *testing.T) {
	for want, args := range map[string][]string{
		"check\ninit\nkubeconfig\nrender": {"cluster", ""},
		"yaml\nyml\n:8":                   {"cluster", "check", ""},
		":4":                              {"cluster", "check", "cluster.yaml", ""},
		":16":                             {"cluster", "render", "cluster.yaml", "--output", ""},
		"--control-planes":                {"cluster", "init", "--control"},
		"--dry-run":                       {"cluster", "render", "--dry"},
		":16  ":                           {"cluster", "kubeconfig", ""},
		":16 ":                            {"run", "--cluster", ""},
	} {
		o := run(t, append([]string{"__complete"}, args...)...)
		var lines []string
		for line := range strings.Lines(o.out) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			lines = append(lines, word)
		}
		if got := strings.Join(lines, "\n"); !strings.Contains(got, strings.TrimSpace(want)) {
			t.Errorf("%q completes to %q, want %q", args, got, want)
		}
	}
}

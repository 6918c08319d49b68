// SPDX-License-Identifier: Apache-2.0

package addons

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseManifestProblems(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "f: holds no object",
		"# nothing":                      "f: holds no object",
		"- x":                            "f: document 1: is not an object",
		"a: [":                           "f: document 1: is not YAML",
		"a: 1\na: 2":                     "f: document 1: is not YAML, or names a field twice",
		"---\n# x\n---\nkind: ConfigMap": "f: document 2: apiVersion is missing",
		"apiVersion: v1":                 "f: document 1: kind is missing",
		"apiVersion: v1\nkind: Pod":      "f: document 1: metadata.name is missing",
		"apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Pod}, 3]": "f: document 1: items[0]: metadata.name is missing",
	} {
		if _, err := ParseManifest("f", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// What others need comes first, and a message says where an object was written.
func TestReadManifests(t *testing.T) {
	root := t.TempDir()
	text := "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: own}\n"
	if err := os.WriteFile(filepath.Join(root, "good.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	objs, err := ReadManifests(root, []string{"/good.yaml"})
	if err != nil || len(objs) != 2 {
		t.Fatalf("%v %v", objs, err)
	}
	if got := objs[0].String(); got != "/good.yaml: document 2: Namespace own" {
		t.Error(got)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add("apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Pod, metadata: {name: x}}]\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\n")
	f.Add("---\n\n---\n{}\n...")
	f.Fuzz(func(t *testing.T, text string) {
		objs, err := ParseManifest("f", []byte(text))
		if err == nil && len(objs) == 0 {
			t.Fatal("neither an object nor an error")
		}
		for _, o := range objs {
			if o.Obj.GetName() == "" || o.Obj.GetKind() == "" || !strings.HasPrefix(o.String(), "f: document ") {
				t.Fatalf("%s", o)
			}
		}
	})
}

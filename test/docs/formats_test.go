// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/builder/source/gomod"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// TestFilesDecode gives every example of a file to what reads such files. A block says
// which file it is (file=path, below the root of a checkout), or "node" or "ignition".
func TestFilesDecode(t *testing.T) {
	byDocument := map[string][]fence{}
	counts := map[string]int{}
	for _, f := range allFences(t) {
		at := fmt.Sprintf("%s:%d", f.file, f.line)
		var err error
		switch {
		case f.label("file") != "":
			byDocument[f.file] = append(byDocument[f.file], f)
			continue
		case f.label("cluster") != "": // TestClustersRender
		case f.label("node") != "":
			counts["node"]++
			_, err = node.Parse(at, []byte(f.text))
		case f.label("ignition") != "":
			counts["ignition"]++
			var document []byte
			if document, err = node.FromIgnition(at, []byte(f.text)); err == nil {
				_, err = node.Parse(at, document)
			}
		case f.language == "yaml" || f.language == "json":
			err = fmt.Errorf("say what this is an example of: file=PATH, node or ignition")
		}
		if err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
	for document := range byDocument {
		checkAdded(t, document, byDocument, counts)
	}
	for _, kind := range []string{"node", "ignition", "profile", "component"} {
		if counts[kind] == 0 {
			t.Errorf("no example of a %s was found", kind)
		}
	}
}

// checkAdded loads the profiles and components among the files a document adds, in a copy
// of the checkout's data that has the components of every document.
func checkAdded(t *testing.T, document string, all map[string][]fence, counts map[string]int) {
	dir := t.TempDir()
	for _, data := range []string{profile.Dir, "assets"} {
		if err := os.CopyFS(filepath.Join(dir, data), os.DirFS(filepath.Join(root, data))); err != nil {
			t.Fatal(err)
		}
	}
	add := func(f fence) {
		to := filepath.Join(dir, filepath.FromSlash(f.label("file")))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, []byte(f.text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, files := range all {
		for _, f := range files {
			add(f)
		}
	}
	for _, f := range all[document] {
		add(f) // its own win over those of others
	}
	for _, f := range all[document] {
		name := f.label("file")
		var err error
		switch {
		case path.Dir(name) == profile.Dir:
			counts["profile"]++
			_, err = profile.Load(os.DirFS(dir), strings.TrimSuffix(path.Base(name), ".yaml"))
		case path.Base(name) == gomod.FileName:
			counts["component"]++
			_, err = gomod.Load(dir, path.Base(path.Dir(name)))
		}
		if err != nil {
			t.Errorf("%s:%d: %v", document, f.line, err)
		}
	}
}

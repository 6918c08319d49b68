// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/source/deb/debtest"
)

// An archive that anybody could have signed changes no pin.
func TestLockRefusesUntrustedArchives(t *testing.T) {
	a := debtest.New(t, debtest.Package{Name: "base-files", Version: "1"})
	root := t.TempDir()
	name := filepath.Join(root, "profiles", "lock.amd64.yaml")
	for file, content := range map[string]string{
		name: "precious",
		filepath.Join(root, "profiles", "node.yaml"): "name: node\ndescription: d\nimage: {id: a, version: b}\ndebian: {suite: trixie, packages: [base-files]}\n" +
			"kernel: {package: base-files}\nlayout: {esp: 64MiB, root: 64MiB, sectorSize: 512}\ndelivery: verity\n",
		filepath.Join(root, "assets", "tools.yaml"): "tools: []\n",
	} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out, errs bytes.Buffer
	status := Main(t.Context(), Streams{In: strings.NewReader(""), Out: &out, Err: &errs},
		[]string{"lock", "--source", root, "--cache-dir", filepath.Join(root, "cache"), "--mirror", a.Mirror()})
	if status != int(fault.Digest) || !strings.Contains(errs.String(), "no signature is by a trusted key") {
		t.Errorf("status %d\n%s%s", status, out.String(), errs.String())
	}
	if data, err := os.ReadFile(name); err != nil || string(data) != "precious" {
		t.Errorf("the lock is now %q, %v", data, err)
	}
}

func TestLockOutput(t *testing.T) {
	pins := &lock.Lock{Packages: []lock.Package{{Name: "a"}, {Name: "b"}}, Sets: map[string][]string{"root/node": {"a"}, "initrd/node": nil}}
	all := lock.Diff{{Kind: "archive", Name: "debian trixie", Old: "Monday", New: "Tuesday"}, {Kind: "package", Name: "a", Old: "1", New: "2"}, {Kind: "package", Name: "b", New: "3"}}
	shown, err := ofProfile(all, pins, "node")
	if err != nil || len(shown) != 2 || shown[1].Name != "a" {
		t.Fatalf("changes of node: %v, %v", shown, err)
	}
	if _, err := ofProfile(all, pins, "none"); fault.ClassOf(err) != fault.MissingPin {
		t.Errorf("error %v", err)
	}
	var out bytes.Buffer
	if err := printChanges(&out, all); err != nil {
		t.Fatal(err)
	}
	want := "KIND     NAME           OLD     NEW\n" +
		"archive  debian trixie  Monday  Tuesday\n" +
		"package  a              1       2\n" +
		"package  b              -       3\n"
	if out.String() != want {
		t.Errorf("prints\n%swant\n%s", out.String(), want)
	}
	none, err := ofProfile(nil, pins, "")
	if doc, jerr := json.Marshal(none); err != nil || jerr != nil || string(doc) != "[]" {
		t.Errorf("no changes are %s as JSON, %v %v", doc, err, jerr)
	}
	if doc, _ := json.Marshal(all[1]); string(doc) != `{"kind":"package","name":"a","old":"1","new":"2"}` {
		t.Errorf("a change is %s", doc)
	}
	for _, c := range []struct {
		changes, shown int
		written        bool
		want           string
	}{
		{0, 0, false, "every pin is current"},
		{3, 3, true, "3 changes written to L"},
		{3, 2, true, "2 of 3 changes shown; all are written to L"},
		{3, 3, false, "3 changes; L is unchanged"},
		{3, 0, false, "0 of 3 changes shown; L is unchanged"},
	} {
		if got := lockSummary("L", c.changes, c.shown, c.written); got != c.want {
			t.Errorf("%d, %d, %t: %q, want %q", c.changes, c.shown, c.written, got, c.want)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package build

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/disk"
	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/plan"
	"github.com/imgbuild/imgbuild/builder/tree"
)

func TestContributors(t *testing.T) {
	tr := tree.New()
	file := func(path, origin string, size int) {
		t.Helper()
		if err := tr.Put(tree.Node{Path: path, Kind: tree.Regular, Mode: 0o644, Content: tree.Bytes(make([]byte, size)), Origin: origin}); err != nil {
			t.Fatal(err)
		}
	}
	file("/usr/bin/a", "component:a", 10)
	file("/usr/lib/a", "component:a", 20)
	file("/usr/lib/b", "deb:b", 30)
	file("/usr/lib/c", "deb:c", 31)
	file("/etc/empty", "step:identity", 0)
	if err := tr.Put(tree.Node{Path: "/etc/link", Kind: tree.Symlink, Mode: 0o777, Target: "a-long-target", Origin: "deb:b"}); err != nil {
		t.Fatal(err)
	}
	want := []Contributor{{"deb:c", 31, 1}, {"component:a", 30, 2}, {"deb:b", 30, 1}, {"step:identity", 0, 1}}
	if got := Contributors(tr); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// project returns a project whose image is at name.
func project(t *testing.T, name string) *Project {
	t.Helper()
	output := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(output, []byte("image"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Project{Output: output, Plan: &plan.Plan{Key: "key"}}
}

func TestUpToDate(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*testing.T, *Project)
		want   bool
	}{
		"unchanged":    {func(*testing.T, *Project) {}, true},
		"another plan": {func(_ *testing.T, p *Project) { p.Plan.Key = "other" }, false},
		"no image":     {func(t *testing.T, p *Project) { must(t, os.Remove(p.Output)) }, false},
		"touched": {func(t *testing.T, p *Project) {
			must(t, os.Chtimes(p.Output, time.Time{}, time.Now().Add(time.Hour)))
		}, false},
		"cut short": {func(t *testing.T, p *Project) {
			info, err := os.Stat(p.Output)
			must(t, err)
			must(t, os.Truncate(p.Output, 1))
			must(t, os.Chtimes(p.Output, time.Time{}, info.ModTime()))
		}, false},
		"no receipt":      {func(t *testing.T, p *Project) { must(t, os.Remove(p.receiptPath())) }, false},
		"receipt cut off": {func(t *testing.T, p *Project) { must(t, os.Truncate(p.receiptPath(), 20)) }, false},
		"receipt without a result": {func(t *testing.T, p *Project) {
			info, err := os.Stat(p.Output)
			must(t, err)
			doc := `{"key":"key","size":5,"modTime":"` + info.ModTime().Format(time.RFC3339Nano) + `"}`
			must(t, os.WriteFile(p.receiptPath(), []byte(doc), 0o600))
		}, false},
		"moved together": {func(t *testing.T, p *Project) {
			dir := filepath.Dir(p.Output)
			must(t, os.Rename(dir, dir+".moved"))
			p.Output = filepath.Join(dir+".moved", "node.raw")
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := project(t, "node.raw")
			must(t, p.record(&Result{Result: disk.Result{Path: p.Output, Size: 5}}))
			c.change(t, p)
			r, ok := p.UpToDate()
			if ok != c.want {
				t.Fatalf("up to date: %t", ok)
			}
			if ok && (r.Path != p.Output || r.Size != 5) {
				t.Errorf("result %+v", r)
			}
		})
	}
}

func TestReceiptPath(t *testing.T) {
	for image, want := range map[string]string{"a/node.raw": "a/node.json", "node.img": "node.img.json", "node.json": "node.json.json", "raw": "raw.json"} {
		if got := (&Project{Output: image}).receiptPath(); got != want {
			t.Errorf("the receipt of %s is %s, want %s", image, got, want)
		}
	}
}

func TestCheckOutput(t *testing.T) {
	for name, c := range map[string]struct {
		receipt string
		want    string
	}{
		"receipt":           {`{"key":"old"}`, ""},
		"nothing in it":     {"", ""},
		"somebody else's":   {`{"name":"app"}`, "something else"},
		"no JSON":           {"key: old", "something else"},
		"JSON of a scalar":  {`"key"`, "something else"},
		"JSON of another k": {`{"key":7}`, "something else"},
	} {
		t.Run(name, func(t *testing.T) {
			p := project(t, "node.raw")
			must(t, os.WriteFile(p.receiptPath(), []byte(c.receipt), 0o600))
			err := p.checkOutput()
			if (err != nil) != (c.want != "") || err != nil && (fault.ClassOf(err) != fault.Usage || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

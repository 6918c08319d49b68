// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/imgbuild/imgbuild/builder/build/buildtest"
	"github.com/imgbuild/imgbuild/builder/cli"
	"github.com/imgbuild/imgbuild/builder/fault"
)

// outcome is what a command line did.
type outcome struct {
	status      int
	out, stderr string
}

// site is a checkout with a cache of its own, where command lines are run.
type site struct {
	*buildtest.Project
	cache, image string
}

func newSite(t *testing.T) *site {
	t.Helper()
	p := buildtest.New(t)
	return &site{Project: p, cache: filepath.Join(t.TempDir(), "cache"), image: filepath.Join(p.Dir, "out", "node-amd64.raw")}
}

// compiled is a store that holds the project's component and nothing else.
var compiled struct {
	sync.Mutex
	dir string // removed by TestMain
}

// warm puts the compiled component into the site's cache, for tests about something else:
// compiling takes longer than everything else a build of the site does.
func (s *site) warm(t *testing.T) *site {
	t.Helper()
	compiled.Lock()
	defer compiled.Unlock()
	if compiled.dir == "" {
		dir, err := os.MkdirTemp("", "imgbuild-compiled-")
		if err != nil {
			t.Fatal(err)
		}
		compiled.dir = dir
		run(t, "component", "pause", "--source", s.Dir, "--cache-dir", dir).want(t, 0)
	}
	if err := os.CopyFS(filepath.Join(s.cache, "entries"), os.DirFS(filepath.Join(compiled.dir, "entries"))); err != nil {
		t.Fatal(err)
	}
	return s
}

// flags are those that every command line of the site has.
func (s *site) flags() []string {
	return []string{"--source", s.Dir, "--cache-dir", s.cache, "--mirror", s.Mirror.URL}
}

// run runs a command line in this process.
func (s *site) run(t *testing.T, args ...string) outcome {
	t.Helper()
	return run(t, append(args, s.flags()...)...)
}

// build builds the image, which has to work.
func (s *site) build(t *testing.T, args ...string) outcome {
	t.Helper()
	o := s.run(t, append([]string{"build", "--profile", "node"}, args...)...)
	o.want(t, 0)
	return o
}

func run(t *testing.T, args ...string) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	status := cli.Main(t.Context(), cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs}, args)
	return outcome{status, out.String(), errs.String()}
}

// want checks the status and that standard error contains every text.
func (o outcome) want(t *testing.T, status fault.Class, texts ...string) {
	t.Helper()
	if o.status != int(status) {
		t.Fatalf("exit status %d, want %d\nstdout:\n%s\nstderr:\n%s", o.status, status, o.out, o.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(o.stderr, text) {
			t.Errorf("standard error does not contain %q:\n%s", text, o.stderr)
		}
	}
	if status != 0 && !strings.HasPrefix(lastError(o.stderr), "imgbuild: ") {
		t.Errorf("the error does not say who speaks:\n%s", o.stderr)
	}
}

// lastError returns standard error from the line that begins the error.
func lastError(stderr string) string {
	i := strings.LastIndex(stderr, "imgbuild: ")
	return stderr[max(i, 0):]
}

// contents maps every file below dir to its bytes, or a link to its target.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			files[name] = "directory"
		case d.Type().IsRegular():
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			files[name] = string(data)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// names returns the names in a directory; none when it does not exist.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return v
}

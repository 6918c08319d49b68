// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/builder/build"
	"github.com/imgbuild/imgbuild/builder/inspect"
	"github.com/imgbuild/imgbuild/builder/manifest"
	"github.com/imgbuild/imgbuild/builder/plan"
)

// A checkout with a cold cache becomes an image, and everything that is asked about it
// afterwards agrees and needs no network.
func TestBuild(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	before := contents(t, s.Dir)
	for _, args := range [][]string{{"plan", "--profile", "node", "--inputs"}, {"--profile", "node", "--dry-run"}, {"plan", "--profile", "node", "--json"}} {
		s.run(t, args...).want(t, 0)
	}
	if after := contents(t, s.Dir); !maps.Equal(before, after) {
		t.Error("a plan changed the checkout")
	}
	if _, err := os.Stat(s.cache); !os.IsNotExist(err) {
		t.Errorf("a plan made the cache: %v", err)
	}
	if r := s.Mirror.Requests(); len(r) != 0 {
		t.Errorf("a plan asked the mirror for %q", r)
	}

	first := s.build(t)
	if got := names(t, filepath.Dir(s.image)); !slices.Equal(got, []string{"node-amd64.json", "node-amd64.raw"}) {
		t.Errorf("out/ holds %q", got)
	}
	if strings.ContainsAny(first.out+first.stderr, "\r\x1b") {
		t.Errorf("output that is no terminal got control characters:\n%q", first.out+first.stderr)
	}
	if r := s.Mirror.Requests(); len(r) != s.Packages() {
		t.Errorf("the mirror was asked %d times for %d packages: %q", len(r), s.Packages(), r)
	}
	want := digest(t, s.image)

	if o := s.build(t); !strings.Contains(o.out, "is up to date") {
		t.Errorf("the second build says:\n%s", o.out)
	}
	if err := os.RemoveAll(filepath.Dir(s.image)); err != nil {
		t.Fatal(err)
	}
	s.build(t, "--offline")
	if digest(t, s.image) != want {
		t.Error("the image made from the cache differs")
	}
	published := stat(t, s.image)
	result := decode[build.Result](t, s.build(t, "--force", "--json").out)
	if os.SameFile(published, stat(t, s.image)) || digest(t, s.image) != want {
		t.Error("--force did not make the same image again")
	}
	if again := decode[build.Result](t, s.build(t, "--json").out); again.Root.Hash != result.Root.Hash || again.Path != s.image {
		t.Errorf("up to date says %v at %s, the build said %v", again.Root.Hash, again.Path, result.Root.Hash)
	}
	if r := s.Mirror.Requests(); len(r) != 0 {
		t.Errorf("builds with a warm cache asked the mirror for %q", r)
	}
	s.inspected(t, result)
}

// inspected checks that inspect finds in the image what the build said it put there.
func (s *site) inspected(t *testing.T, built build.Result) {
	t.Helper()
	text := s.run(t, "inspect", "--verify", "--packages", s.image)
	text.want(t, 0)
	for _, want := range []string{built.Root.Hash.String(), "every block verified", "imgbuild 1.2.3 (node)", "pause", "hello", "quiet"} {
		if !strings.Contains(text.out, want) {
			t.Errorf("inspect does not mention %q:\n%s", want, text.out)
		}
	}
	image := decode[inspect.Image](t, s.run(t, "inspect", "--json", s.image).out)
	m := decode[manifest.Manifest](t, string(image.Manifest))
	if image.Root.Hash != built.Root.Hash || m.Key != built.Manifest.Key || len(m.Packages) != len(built.Manifest.Packages) || len(m.Packages) != 4 {
		t.Errorf("the image says root hash %v, key %s, packages %v; the build said %v, %s, %v",
			image.Root.Hash, m.Key, m.Packages, built.Root.Hash, built.Manifest.Key, built.Manifest.Packages)
	}
}

// Whoever comes last, image and receipt are of one build: what the receipt says about the
// image is what is in it.
func TestBuildsAtOnce(t *testing.T) {
	t.Parallel()
	small, large := newSite(t).warm(t), newSite(t)
	large.Edit(t, "assets/node.conf", "small", "large")
	large.cache, large.image = small.cache, small.image
	sites := []*site{small, large}
	for round := range 3 {
		outcomes := make(chan outcome)
		for i := range 4 {
			go func() { outcomes <- sites[i%2].run(t, "build", "--profile", "node", "--output", small.image) }()
		}
		for range 4 {
			o := <-outcomes
			o.want(t, 0)
		}
		image := decode[inspect.Image](t, small.run(t, "inspect", "--json", small.image).out)
		current := 0
		for _, s := range sites {
			o := s.run(t, "build", "--profile", "node", "--output", small.image, "--json", "--dry-run")
			o.want(t, 0)
			key := decode[plan.Plan](t, o.out).Key
			if m := decode[manifest.Manifest](t, string(image.Manifest)); m.Key == string(key) {
				current++
			}
		}
		receipt := decode[struct {
			Key   string       `json:"key"`
			Image build.Result `json:"image"`
		}](t, contents(t, filepath.Dir(small.image))["node-amd64.json"])
		if receipt.Image.Root.Hash != image.Root.Hash || current != 1 {
			t.Fatalf("round %d: the receipt is of %v, the image is %v; %d of two plans made it", round, receipt.Image.Root.Hash, image.Root.Hash, current)
		}
	}
}

func TestSameBytesElsewhere(t *testing.T) {
	t.Parallel()
	a, b := newSite(t), newSite(t).warm(t)
	a.build(t)
	other := filepath.Join(t.TempDir(), "deep", "other.raw")
	b.build(t, "--output", other, "--progress", "none")
	if digest(t, a.image) != digest(t, other) {
		t.Error("two checkouts with their own caches made different images")
	}
}

func TestRunsOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	s := newSite(t).warm(t)
	s.build(t)
	for _, c := range []struct {
		file, old, new string
		todo           []string
	}{
		{"assets/node.conf", "small", "large", nil},
		{"assets/early.conf", "true", "false", []string{"initrd"}},
		{"assets/components/pause/main.go", "imgbuild pause ", "imgbuild pause  ", []string{"component/pause", "base-image"}},
		{"profiles/node.yaml", `modules: ["drivers/misc/*"]`, `modules: ["drivers/misc/ti*"]`, []string{"module-index", "initrd"}},
	} {
		before := decode[plan.Plan](t, s.run(t, "plan", "--profile", "node", "--json").out)
		if todo := unfinished(before); todo != nil {
			t.Errorf("after a build %q are still to do", todo)
		}
		hash := decode[build.Result](t, s.build(t, "--json").out).Root.Hash
		s.Edit(t, c.file, c.old, c.new)
		if c.file == "assets/components/pause/main.go" {
			s.Edit(t, "assets/components/pause/component.yaml", "imgbuild pause ${", "imgbuild pause  ${")
			s.SaveLock(t)
		}
		after := decode[plan.Plan](t, s.run(t, "plan", "--profile", "node", "--json").out)
		if todo := unfinished(after); !slices.Equal(todo, c.todo) || after.Key == before.Key {
			t.Errorf("%s: to do are %q, want %q; key %s, before %s", c.file, todo, c.todo, after.Key, before.Key)
		}
		if now := decode[build.Result](t, s.build(t, "--json").out).Root.Hash; now == hash {
			t.Errorf("%s: the root hash is still %s", c.file, now)
		}
	}
}

// unfinished returns the steps with a kept result that the store does not have.
func unfinished(p plan.Plan) []string {
	var todo []string
	for _, step := range p.Steps {
		if !step.Cached && step.Kind != plan.Root && step.Kind != plan.Image {
			todo = append(todo, step.Name)
		}
	}
	return todo
}

// A foreign file of the image's name is replaced by a finished image and by nothing else.
func TestReplacesFilesOnlyWhenDone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Write(t, "out/node-amd64.raw", "precious")
	pause := "assets/components/pause/main.go"
	s.Edit(t, pause, "package main", "package main;;")
	s.SaveLock(t)
	s.run(t, "--profile", "node").want(t, 9)
	if got := contents(t, filepath.Dir(s.image)); got["node-amd64.raw"] != "precious" || len(got) != 2 {
		t.Errorf("a failed build left %q", slices.Collect(maps.Keys(got)))
	}
	s.Edit(t, pause, "package main;;", "package main")
	s.SaveLock(t)
	s.build(t)
	if stat(t, s.image).Size() < 1<<20 {
		t.Error("the image did not replace the file")
	}
}

func stat(t *testing.T, name string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// digest returns a digest of a file's bytes. Blocks of zeros, of which an image mostly
// consists, are left out, and holes are not even read; where the others are counts.
func digest(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	block, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); ; at += int64(len(block)) {
		data, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			fmt.Fprintf(sum, "size %d", stat(t, name).Size())
			return hex.EncodeToString(sum.Sum(nil))
		}
		if err != nil {
			t.Fatal(err)
		}
		at = data - data%int64(len(block))
		n, err := f.ReadAt(block, at)
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if !bytes.Equal(block[:n], zeros[:n]) {
			fmt.Fprintf(sum, "at %d: %s", at, block[:n])
		}
	}
}

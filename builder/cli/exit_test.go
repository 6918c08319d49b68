// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/build/buildtest"
	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/lock"
)

// Every status of docs/exit-codes.md but those of signals and full disks, by its real cause.

// The lock says what an image is made of: a build of something else would make it lie.
func TestComponentIsNotTheLocked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ file, old, new, want string }{
		"code":        {"main.go", "func main() {", "// changed\nfunc main() {", "the files of component pause in assets/components/pause changed after the lock for amd64 was written (recipe "},
		"description": {"component.yaml", "description: ", "description: also ", "the files of component pause"},
		"version":     {"component.yaml", "version: v1.0.0", "version: v1.0.1", "the lock for amd64 pins github.com/imgbuild/imgbuild/assets/components/pause v1.0.0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t).warm(t)
			s.Edit(t, "assets/components/pause/"+c.file, c.old, c.new)
			s.run(t, "plan", "--profile", "node").want(t, fault.MissingPin, c.want, "run 'imgbuild lock'")
			s.SaveLock(t)
			s.run(t, "plan", "--profile", "node").want(t, 0)
		})
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := t.TempDir()
	link := filepath.Join(dir, "link.raw")
	if err := os.Symlink("elsewhere", link); err != nil {
		t.Fatal(err)
	}
	notes := filepath.Join(dir, "notes.json")
	if err := os.WriteFile(notes, []byte(`{"mine": true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"verb":           {[]string{"bake"}, []string{`unknown command "bake"`, "imgbuild --help"}},
		"nearly a verb":  {[]string{"biuld"}, []string{`unknown command "biuld"`, "build"}},
		"verb of a verb": {[]string{"cache", "empty"}, []string{"empty", "imgbuild cache --help"}},
		"help for":       {[]string{"help", "bake"}, []string{"bake"}},
		"flag":           {[]string{"build", "--profil", "node"}, []string{"unknown flag: --profil", "imgbuild build --help"}},
		"no value":       {[]string{"build", "--profile"}, []string{"flag needs an argument"}},
		"no profile":     {[]string{"build"}, []string{"--profile", "imgbuild profiles"}},
		"only a flag":    {[]string{"--offline"}, []string{"--profile", "imgbuild profiles"}},
		"no image":       {[]string{"inspect"}, []string{"imgbuild inspect --help"}},
		"too many":       {[]string{"plan", "node"}, []string{"imgbuild plan --help"}},
		"architecture":   {[]string{"plan", "--profile", "node", "--arch", "riscv64"}, []string{`"riscv64"`, "amd64, arm64"}},
		"display":        {[]string{"plan", "--profile", "node", "--progress", "loud"}, []string{`"loud"`, "auto, bars, plain, none"}},
		"mirror":         {[]string{"build", "--profile", "node", "--mirror", "mirror.example"}, []string{"mirror.example", "http://HOST/debian"}},
		"directory":      {[]string{"build", "--profile", "node", "--output", dir}, []string{dir + " is a directory"}},
		"link":           {[]string{"build", "--profile", "node", "--output", link}, []string{link + " is a symbolic link", "remove the link"}},
		"device":         {[]string{"plan", "--profile", "node", "--output", "/dev/null"}, []string{"/dev/null is not a regular file"}},
		"record":         {[]string{"plan", "--profile", "node", "--output", filepath.Join(dir, "notes.raw")}, []string{notes, "move it away"}},
		"two images":     {[]string{"run", "--profile", "node", "--image", "x.raw"}, []string{"--image and --profile"}},
		"no checkout":    {[]string{"plan", "--profile", "node", "--source", dir}, []string{dir, "profiles"}},
		"no image file":  {[]string{"inspect", filepath.Join(dir, "none.raw")}, []string{"none.raw"}},
		"nothing to run": {[]string{"run", "--image", filepath.Join(dir, "none.raw")}, []string{"none.raw"}},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, append(s.flags(), c.args...)...).want(t, fault.Usage, c.want...)
		})
	}
	if r := s.Mirror.Requests(); len(r) != 0 {
		t.Errorf("the mirror was asked for %q", r)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	t.Run("every problem at once", func(t *testing.T) {
		s := newSite(t)
		s.Edit(t, "profiles/node.yaml", "esp: 33MiB", "esp: 1MiB")
		s.Edit(t, "profiles/node.yaml", "components: [pause]", "components: [puase]\ncolour: green")
		s.Edit(t, "profiles/base.yaml", "delivery: verity", "delivery: pigeon")
		o := s.run(t, "build", "--profile", "node")
		o.want(t, fault.Config, `"1MiB"`, `"puase"`, `did you mean "pause"`, "colour", `"pigeon"`, "docs/reference/profile.md")
		places := regexp.MustCompile(`(?m)profiles/(node|base)\.yaml:\d+:\d+: `).FindAllString(o.stderr, -1)
		if len(places) != 4 {
			t.Errorf("%d problems have a place, want 4:\n%s", len(places), o.stderr)
		}
	})
	for name, c := range map[string]struct {
		file, old, new string
		want           string
	}{
		"abstract":       {"profiles/node.yaml", "extends: base", "extends: base\nabstract: true", "profile node is abstract"},
		"lock":           {"profiles/lock.amd64.yaml", "version: 1", "version: 7", "profiles/lock.amd64.yaml:3:10: version"},
		"date":           {"profiles/lock.amd64.yaml", "date: Fri", "date: someday", "of debian trixie is not a date"},
		"component":      {"assets/components/pause/component.yaml", "description:", "descripton:", "descripton"},
		"no such module": {"profiles/node.yaml", `modules: ["drivers/misc/*"]`, `modules: ["drivers/none/*"]`, `"drivers/none/*" matches no module`},
		"no such file":   {"profiles/node.yaml", `files: ["/usr/share/hello/greeting"]`, `files: ["/usr/bin/nothing"]`, `"/usr/bin/nothing" matches nothing`},
		"no such unit":   {"profiles/node.yaml", "layout:", "units: {enable: [none.service]}\nlayout:", "none.service"},
		"no such owner":  {"profiles/node.yaml", "source: node.conf", "source: node.conf, owner: ghost", "ghost"},
		"no kernel":      {"profiles/node.yaml", "package: " + buildtest.Kernel, "package: hello", "exactly one"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t).warm(t)
			if name == "no kernel" {
				s.Lock.Sets[lock.RootSet("node")] = []string{"base-files", "base-passwd", "hello"}
				s.SaveLock(t)
			}
			s.Edit(t, c.file, c.old, c.new)
			s.run(t, "build", "--profile", "node").want(t, fault.Config, c.want, "\n  next: ")
		})
	}
}

func TestMissingPin(t *testing.T) {
	t.Parallel()
	t.Run("not in the lock", func(t *testing.T) {
		s := newSite(t).warm(t)
		s.Edit(t, "profiles/node.yaml", "packages: [hello]", "packages: [hello, nftables, vim]")
		s.run(t, "plan", "--profile", "node").want(t, fault.MissingPin, "nftables", "vim", "imgbuild lock")
	})
	t.Run("no lock", func(t *testing.T) {
		s := newSite(t).warm(t)
		s.run(t, "plan", "--profile", "node", "--arch", "arm64").want(t, fault.MissingPin, "lock.arm64.yaml", "imgbuild lock")
	})
	t.Run("gone from the mirror", func(t *testing.T) {
		s := newSite(t).warm(t)
		s.Mirror.Answer(s.Package(t, "hello"), http.NotFound)
		s.run(t, "build", "--profile", "node").want(t, fault.MissingPin, "hello 2.10", "404", "imgbuild lock", "old and new")
		if got := names(t, filepath.Dir(s.image)); len(got) != 0 {
			t.Errorf("out/ holds %q", got)
		}
	})
}

func TestDigest(t *testing.T) {
	t.Parallel()
	s := newSite(t).warm(t)
	pkg := s.Package(t, "hello")
	wrong := bytes.Clone(pkg.Bytes)
	wrong[len(wrong)/2] ^= 1
	s.Mirror.Answer(pkg, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(wrong) })
	s.run(t, "build", "--profile", "node").want(t, fault.Digest, "hello 2.10", pkg.Pin.SHA256, "do not use this origin")
	s.Mirror.Answer(pkg, nil)
	s.Mirror.Requests()
	s.build(t)
	if r := s.Mirror.Requests(); len(r) != 1 {
		t.Errorf("after the mirror was put right %q were fetched, want hello alone", r)
	}
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	s := newSite(t).warm(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody listens there any more
	for _, args := range [][]string{{"--mirror", "http://" + l.Addr().String() + "/debian"}, {"--offline"}} {
		o := run(t, append(append([]string{"--profile", "node"}, s.flags()...), args...)...)
		o.want(t, fault.Network)
		for _, pkg := range s.Lock.Packages {
			if !strings.Contains(o.stderr, pkg.Name+" "+pkg.Version) {
				t.Errorf("%q: the error does not name %s:\n%s", args, pkg.Name, o.stderr)
			}
		}
	}
}

func TestTooSmall(t *testing.T) {
	t.Parallel()
	t.Run("root", func(t *testing.T) {
		s := newSite(t).warm(t)
		s.Replace(t, buildtest.Deb(t, "hello", "3", buildtest.File{Path: "/usr/share/hello/greeting", Content: "hello\n"},
			buildtest.File{Path: "/usr/share/hello/big", Content: strings.Repeat("hello...", 70<<20/8)}))
		o := s.run(t, "build", "--profile", "node")
		o.want(t, fault.TooSmall, "its slot holds 67108864", "MiB) too few", "set layout.root in the profile to at least 73MiB")
		s.Edit(t, "profiles/node.yaml", "root: 64MiB", "root: 73MiB")
		s.build(t)
	})
	t.Run("esp", func(t *testing.T) {
		s := newSite(t).warm(t)
		s.Replace(t, s.KernelOf(t, 36<<20))
		o := s.run(t, "build", "--profile", "node")
		o.want(t, fault.TooSmall, "EFI system partition", "it holds 34054144", "too few", "layout.esp")
		if got := names(t, filepath.Dir(s.image)); len(got) != 0 {
			t.Errorf("out/ holds %q", got)
		}
	})
}

func TestBuildFails(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Edit(t, "assets/components/pause/main.go", "func main() {", "func main() {\n\tundefinedThing()\n")
	s.SaveLock(t)
	o := s.run(t, "build", "--profile", "node")
	o.want(t, fault.Build, "pause", `"build"`, "undefined: undefinedThing", "main.go:")
}

func TestMachine(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	image := filepath.Join(t.TempDir(), "broken.raw")
	if err := os.WriteFile(image, []byte("no disk"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Lock.Sets[lock.ToolSet("qemu")] = []string{"hello"}
	s.SaveLock(t)
	s.run(t, "run", "--image", image, "--accel", "tcg").want(t, fault.Machine, "qemu", "\n  next: ")

	// A QEMU that starts and fails: kmod under its name knows none of its arguments.
	files := append(buildtest.Kmod(t), buildtest.File{Path: "/usr/bin/qemu-system-x86_64", Link: "kmod"}, buildtest.File{Path: "/usr/bin/qemu-img", Link: "kmod"})
	s.Replace(t, buildtest.Deb(t, "hello", "4", files...))
	s.run(t, "run", "--image", image, "--accel", "tcg").want(t, fault.Machine, "qemu-", "\n  next: ")
}

func TestCorruptImage(t *testing.T) {
	t.Parallel()
	s := newSite(t).warm(t)
	s.build(t)
	f, err := os.OpenFile(s.image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const inRoot = 34<<20 + 1<<20 // the root partition begins at 34 MiB
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, inRoot); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, inRoot); err != nil {
		t.Fatal(err)
	}
	s.run(t, "inspect", "--verify", s.image).want(t, fault.Corrupt, s.image, "build the image again")
	s.run(t, "inspect", filepath.Join(s.Dir, "profiles/node.yaml")).want(t, fault.Corrupt, "node.yaml")
	if o := s.build(t); strings.Contains(o.out, "up to date") {
		t.Error("a changed image counts as up to date")
	}
	s.run(t, "inspect", "--verify", s.image).want(t, 0)
}

// SPDX-License-Identifier: Apache-2.0

package tool

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// The test binary plays the dynamic loader and static programs of a set: started under one
// of these names it does as its name says.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "ld-test.so", "static":
		_ = json.NewEncoder(os.Stdout).Encode(report{os.Args, os.Environ()})
		os.Exit(0)
	case "fails":
		for i := range 50 {
			fmt.Fprintf(os.Stderr, "line %d\x1b[31m\n", i)
		}
		os.Exit(3)
	case "sleeps":
		fmt.Println("started")
		time.Sleep(time.Hour)
	}
	os.Exit(m.Run())
}

type report struct{ Args, Env []string }

var multiarch = platforms[runtime.GOARCH].multiarch

// testSet has a loader, a program with two libraries, and some that cannot be run.
func testSet(t testing.TB) *Set {
	t.Helper()
	root := t.TempDir()
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	lib := "usr/lib/" + multiarch + "/"
	place(t, root, lib+"ld-test.so", self)
	link(t, root, "usr/lib64/ld-test.so", "../lib/"+multiarch+"/ld-test.so")
	if err := os.Mkdir(filepath.Join(root, "usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"static", "fails", "sleeps"} {
		// A hard link to the loader: programs that need no loader of the set.
		if err := os.Link(filepath.Join(root, lib+"ld-test.so"), filepath.Join(root, "usr/bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	object{interp: "/lib64/ld-test.so", needed: []string{"liba.so.1"}}.place(t, root, "usr/sbin/dynamic")
	object{needed: []string{"libb.so.1"}, runpath: "/usr/lib/private"}.place(t, root, lib+"liba.so.1")
	object{}.place(t, root, "usr/lib/private/libb.so.1")
	object{interp: "/lib64/ld-test.so", needed: []string{"liba.so.1", "libgone.so.7", "libalso.so.2"}}.place(t, root, "usr/bin/broken")
	object{interp: "/lib64/ld-other.so"}.place(t, root, "usr/bin/loaderless")
	object{machine: elf.EM_S390, interp: "/lib64/ld-test.so"}.place(t, root, "usr/bin/foreign")
	place(t, root, "usr/bin/script", []byte("#!/bin/sh\nexit 0\n"))
	place(t, root, "usr/bin/text", []byte("hello"))
	link(t, root, "usr/bin/escapes", "/bin/sh")
	link(t, root, "usr/bin/alias", "../sbin/dynamic")
	return New(root)
}

func parse(t *testing.T, out []byte, err error) report {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestDynamicProgramRunsThroughItsOwnLoader(t *testing.T) {
	s := testSet(t)
	out, err := s.Run(t.Context(), "dynamic", "-v", "disk.img")
	r := parse(t, out, err)
	root, _ := filepath.EvalSymlinks(s.Dir)
	at := func(p string) string { return filepath.Join(root, p) }
	want := []string{
		at("usr/lib/" + multiarch + "/ld-test.so"), "--library-path",
		at("usr/lib/"+multiarch) + ":" + at("usr/lib") + ":" + at("usr/lib/private"),
		"--inhibit-cache", "--argv0", "dynamic", at("usr/sbin/dynamic"), "-v", "disk.img",
	}
	if !slices.Equal(r.Args, want) {
		t.Errorf("arguments\n %q, want\n %q", r.Args, want)
	}
	cmd, err := s.Command(t.Context(), "alias")
	if err != nil || cmd.Args[6] != at("usr/sbin/dynamic") || cmd.Args[5] != "alias" {
		t.Errorf("alias: %v, %v", cmd, err)
	}
}

func TestEnvironmentIsClean(t *testing.T) {
	for _, name := range []string{"LD_PRELOAD", "LD_LIBRARY_PATH", "LANG", "MALLOC_PERTURB_", "PATH_SECRET"} {
		t.Setenv(name, "x")
	}
	out, err := testSet(t).Run(t.Context(), "/usr/sbin/dynamic")
	for _, e := range parse(t, out, err).Env {
		name, value, _ := strings.Cut(e, "=")
		switch name {
		case "HOME", "TMPDIR":
		case "LC_ALL":
			if value != "C" {
				t.Errorf("LC_ALL=%s", value)
			}
		case "TZ", "PATH":
		default:
			t.Errorf("%s reached the program", e)
		}
	}
}

func TestRelativeRootWorksFromAnotherDirectory(t *testing.T) {
	s := testSet(t)
	t.Chdir(filepath.Dir(s.Dir))
	cmd, err := New(filepath.Base(s.Dir)).Command(t.Context(), "dynamic")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Dir = "/"
	if _, err := Output(t.Context(), cmd); err != nil {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	s := testSet(t)
	for name, want := range map[string][]string{
		"script":                   {"script", "interpreter"},
		"text":                     {"usr/bin/text"},
		"foreign":                  {"architecture", "EM_S390", runtime.GOARCH},
		"loaderless":               {"/lib64/ld-other.so"},
		"broken":                   {"libgone.so.7 (needed by broken)", "libalso.so.2", "imgbuild lock"},
		"escapes":                  {"leads out"},
		"nowhere":                  {"nowhere", "usr/sbin", "imgbuild lock"},
		"":                         {"is not in"},
		"/usr/bin":                 {"is not in"},
		"../../../../../../bin/sh": {"is not in"},
	} {
		_, err := s.Run(t.Context(), name)
		if fault.ClassOf(err) != fault.Build {
			t.Errorf("%q: class %d: %v", name, fault.ClassOf(err), err)
		}
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%q: error lacks %q: %v", name, w, err)
			}
		}
	}
}

func TestStaticProgram(t *testing.T) {
	if !isStatic(t) {
		// Built with the race detector the test binary is dynamic and wants the host's
		// loader; that the set refuses it is the thing to see then.
		_, err := testSet(t).Command(t.Context(), "static")
		if fault.ClassOf(err) != fault.Build {
			t.Errorf("ran with the host's loader: %v", err)
		}
		return
	}
	out, err := testSet(t).Run(t.Context(), "static", "a")
	if r := parse(t, out, err); !slices.Equal(r.Args, []string{"static", "a"}) {
		t.Errorf("arguments %q", r.Args)
	}
}

func isStatic(t *testing.T) bool {
	f, err := elf.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	interp, err := interpreter(f)
	if err != nil {
		t.Fatal(err)
	}
	return interp == ""
}

// direct starts a program of the set without looking at it.
func direct(ctx context.Context, t *testing.T, s *Set, program string, args ...string) *exec.Cmd {
	t.Helper()
	s.known[program] = &launch{file: filepath.Join(s.Dir, "usr/bin", program)}
	cmd, err := s.Command(ctx, program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestFailureCarriesCommandStatusAndOutput(t *testing.T) {
	cmd := direct(t.Context(), t, testSet(t), "fails", "--flag", "two words", "")
	_, err := Output(t.Context(), cmd)
	if fault.ClassOf(err) != fault.Build {
		t.Fatalf("class %d: %v", fault.ClassOf(err), err)
	}
	for _, want := range []string{"fails --flag 'two words' ''", "exit status 3", "line 49", "next: "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "line 20[") || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("too much output, or control sequences: %q", err)
	}
	var e *Error
	var exit *exec.ExitError
	if !errors.As(err, &e) || !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("cause is lost: %v", err)
	}
}

func TestCancelEndsTheProgram(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cmd := direct(ctx, t, testSet(t), "sleeps")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("ended well")
	}
}

func TestInterruptedRunIsClassified(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := testSet(t).Run(ctx, "dynamic")
	if fault.ClassOf(err) != fault.Interrupted {
		t.Errorf("class %d: %v", fault.ClassOf(err), err)
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"plain-1.0/x": "plain-1.0/x", "": "''", "two words": "'two words'", "it's": `'it'\''s'`, "$HOME": "'$HOME'",
		"a\nb": `$'a\nb'`,
	} {
		if got := quote(in); got != want {
			t.Errorf("quote(%q) = %s, want %s", in, got, want)
		}
	}
}

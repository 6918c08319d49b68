// SPDX-License-Identifier: Apache-2.0

// Package tool runs programs of locked Debian packages on a host that does not have them
// installed, as an ordinary user and without a chroot.
//
// A Set is a directory that holds the unpacked packages (see Materialize). A dynamically
// linked program in it is started through the set's own dynamic loader with the set's own
// library directories, so the host's libc never takes part; a statically linked one is
// started as it is. Before that the closure of its libraries is checked, so that a package
// missing from the set is reported by name of the library and not by a program that
// silently picked up the host's.
//
// Limits: a program finds the loader and not itself in /proc/self/exe, absolute paths
// compiled into it name the host's directories, and scripts are refused, because their
// interpreter would be the host's. Tools always have the host's architecture, whatever the
// image's is.
package tool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// Set is a directory with unpacked packages whose programs can be run.
type Set struct {
	// Dir is the unpacked root.
	Dir string

	mu    sync.Mutex
	known map[string]*launch // by program name
}

// launch is how a program is started.
type launch struct {
	file string
	// loader is the set's dynamic loader, empty for a static program.
	loader    string
	libraries []string
}

// New returns the set in the directory root.
func New(root string) *Set {
	// Commands may run in another directory. Abs fails only without a working directory,
	// and then nothing relative can be found anyway.
	if abs, err := filepath.Abs(root); err == nil {
		root = abs
	}
	return &Set{Dir: root, known: map[string]*launch{}}
}

// programDirs are searched for programs, in this order.
var programDirs = []string{"usr/bin", "usr/sbin", "usr/libexec", "bin", "sbin"}

// termination is how long a cancelled program may take to end after SIGTERM.
const termination = 5 * time.Second

// Find returns the path of a program in the set. Program is a name that is looked up in
// the set's directories for programs, or a path below its root ("/usr/lib/qemu/helper").
func (s *Set) Find(program string) (string, error) {
	var candidates []string
	if strings.Contains(program, "/") {
		candidates = []string{filepath.Join(s.Dir, filepath.Clean("/"+program))}
	} else if program != "" {
		for _, d := range programDirs {
			candidates = append(candidates, filepath.Join(s.Dir, d, program))
		}
	}
	for _, c := range candidates {
		switch p, err := s.inside(c); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return "", fault.Wrap(fault.Build, fmt.Errorf("tool %s: %w", program, err), "")
		default:
			if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() {
				return p, nil
			}
		}
	}
	return "", fault.New(fault.Build, "add the package that ships it to the tool's packages and run 'imgbuild lock'",
		"tool %s is not in %s (searched %s)", program, s.Dir, strings.Join(programDirs, ", "))
}

// inside resolves the links of path and makes sure that it does not leave the set.
func (s *Set) inside(path string) (string, error) {
	root, err := filepath.EvalSymlinks(s.Dir)
	if err != nil {
		return "", err
	}
	p, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	if p != root && !strings.HasPrefix(p, root+"/") {
		return "", fmt.Errorf("%s leads out of the unpacked packages, to %s", path, p)
	}
	return p, nil
}

// Command prepares to run a program of the set. The environment is fixed and nearly empty
// (LC_ALL=C, TZ=UTC, HOME, TMPDIR, a PATH without programs); callers append to Env what
// the program needs. When ctx ends the program gets SIGTERM, five seconds later SIGKILL.
// It does not outlive imgbuild, however that dies.
func (s *Set) Command(ctx context.Context, program string, args ...string) (*exec.Cmd, error) {
	l, err := s.launch(program)
	if err != nil {
		return nil, err
	}
	argv := append([]string{program}, args...)
	name := l.file
	if l.loader != "" {
		name = l.loader
		argv = append([]string{
			l.loader, "--library-path", strings.Join(l.libraries, ":"), "--inhibit-cache", "--argv0", program, l.file,
		}, args...)
	}
	cmd := exec.CommandContext(ctx, name)
	cmd.Args = argv
	cmd.Env = environment()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = termination
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

func environment() []string {
	env := []string{"LC_ALL=C", "TZ=UTC", "PATH=/nonexistent"}
	for _, name := range []string{"HOME", "TMPDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// launch finds out, once per program, how to start it.
func (s *Set) launch(program string) (*launch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.known[program]; l != nil {
		return l, nil
	}
	file, err := s.Find(program)
	if err != nil {
		return nil, err
	}
	l, err := s.inspect(file)
	if err != nil {
		return nil, fault.Wrap(fault.Build, fmt.Errorf("tool %s: %w", program, err), hintFor(err))
	}
	if s.known == nil {
		s.known = map[string]*launch{}
	}
	s.known[program] = l
	return l, nil
}

func hintFor(err error) string {
	switch {
	case errors.Is(err, errScript):
		return "use a program, not a script: its interpreter would be the host's"
	case errors.Is(err, errArchitecture):
		return "lock the tool's packages for " + runtime.GOARCH + ", the architecture imgbuild runs on"
	case errors.Is(err, errMissingLibrary):
		return "add the packages that ship the libraries to the tool's packages and run 'imgbuild lock'"
	}
	return ""
}

// SPDX-License-Identifier: Apache-2.0

package tool

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// tailLines and tailBytes bound how much of a failed program's output an error carries.
const (
	tailLines = 20
	tailBytes = 4096
)

// Error is a program that could not be started or did not succeed.
type Error struct {
	// Argv is the command as the user knows it, without the loader in front.
	Argv []string
	// Status says how it ended: "exit status 2", "signal: killed".
	Status string
	// Output is the end of what it wrote to stdout and stderr.
	Output string
	Err    error
}

func (e *Error) Error() string {
	quoted := make([]string, len(e.Argv))
	for i, a := range e.Argv {
		quoted[i] = quote(a)
	}
	text := strings.Join(quoted, " ") + ": " + e.Status
	if e.Output == "" {
		return text + " (no output)"
	}
	return text + "\n  | " + strings.ReplaceAll(e.Output, "\n", "\n  | ")
}

func (e *Error) Unwrap() error { return e.Err }

// Run runs a program of the set and returns what it wrote to stdout. A failure is of class
// Build, wraps *Error and carries the command, its status and the end of its output.
func (s *Set) Run(ctx context.Context, program string, args ...string) ([]byte, error) {
	cmd, err := s.Command(ctx, program, args...)
	if err != nil {
		return nil, err
	}
	return Output(ctx, cmd)
}

// Output runs a command that Command prepared and the caller may have changed (its
// environment, directory or stdin), like Run.
func Output(ctx context.Context, cmd *exec.Cmd) ([]byte, error) {
	var stdout bytes.Buffer
	end := &tail{}
	cmd.Stdout = &both{a: &stdout, b: end}
	cmd.Stderr = end
	err := cmd.Run()
	if err == nil {
		return stdout.Bytes(), nil
	}
	failure := &Error{Argv: shownArgv(cmd.Args), Status: err.Error(), Output: end.String(), Err: err}
	if ctx.Err() != nil {
		return nil, fault.Wrap(fault.Interrupted, errors.Join(context.Cause(ctx), failure), "")
	}
	return nil, fault.Wrap(fault.Build, failure, hintForStart(err))
}

func hintForStart(err error) string {
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return "the lines after '|' are the program's own output; to run it by hand, look for its directory in the cache"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return "the cache may be on a file system mounted noexec: name another directory with --cache-dir"
	}
	return "run 'imgbuild cache verify', then the build again"
}

// shownArgv takes the loader and its options off a command line made by Command.
func shownArgv(args []string) []string {
	if i := slices.Index(args, "--argv0"); i == 4 && len(args) > i+2 {
		return append([]string{args[i+1]}, args[i+3:]...)
	}
	return args
}

// quote makes an argument readable and safe to paste into a shell.
func quote(a string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=,@+%", r)
	}
	if a != "" && strings.IndexFunc(a, func(r rune) bool { return !plain(r) }) < 0 {
		return a
	}
	for _, r := range a {
		if !strconv.IsPrint(r) {
			return "$" + "'" + strings.ReplaceAll(strings.Trim(strconv.Quote(a), `"`), "'", `\'`) + "'"
		}
	}
	return "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
}

// both writes to two writers; exec runs one goroutine per distinct writer, so the tail is
// shared between stdout and stderr and locks itself.
type both struct {
	a *bytes.Buffer
	b *tail
}

func (w *both) Write(p []byte) (int, error) {
	w.a.Write(p)
	return w.b.Write(p)
}

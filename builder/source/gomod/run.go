// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// command is one run of a program.
type command struct {
	argv []string
	dir  string
	env  []string
	// line, when set, sees every line of standard error as it comes.
	line func(string)
}

// kept of the output of a failed command, in bytes.
const tailSize = 8 << 10

// run executes the command and returns its standard output. A cancelled context kills the
// command's whole process group: go build runs compilers that would go on without it. When
// this process is killed, go build goes too instead of writing into a store it lost.
func (c command) run(ctx context.Context) ([]byte, error) {
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Dir, cmd.Env = c.dir, c.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var stdout bytes.Buffer
	stderr := &lineWriter{line: c.line}
	cmd.Stdout, cmd.Stderr = &stdout, stderr
	err := cmd.Run()
	stderr.flush()
	if ctx.Err() != nil {
		return nil, fault.Wrap(fault.Interrupted, ctx.Err(), "")
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return stdout.Bytes(), nil
	case errors.As(err, &exit):
		return stdout.Bytes(), classify(&Failed{Argv: c.argv, Dir: c.dir, Status: exit.ExitCode(), Output: stderr.tail()})
	}
	return nil, fault.Wrap(fault.Build, fmt.Errorf("%s: %w", strings.Join(c.argv, " "), err), "check that the Go installation works")
}

// Failed is a command that ended with a status other than zero.
type Failed struct {
	Argv   []string
	Dir    string
	Status int
	// Output is the end of what it wrote to standard error.
	Output string
}

func (f *Failed) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q in %s ended with status %d", f.Argv, f.Dir, f.Status)
	s := bufio.NewScanner(strings.NewReader(f.Output))
	for s.Scan() {
		fmt.Fprintf(&b, "\n    %s", s.Text())
	}
	return b.String()
}

// lineWriter cuts a stream into lines and keeps the end of it.
type lineWriter struct {
	line    func(string)
	partial []byte
	last    []byte
}

var _ io.Writer = (*lineWriter)(nil)

func (w *lineWriter) Write(p []byte) (int, error) {
	w.partial = append(w.partial, p...)
	for {
		i := bytes.IndexByte(w.partial, '\n')
		if i < 0 {
			return len(p), nil
		}
		w.take(w.partial[:i])
		w.partial = w.partial[i+1:]
	}
}

func (w *lineWriter) flush() {
	if len(w.partial) > 0 {
		w.take(w.partial)
		w.partial = nil
	}
}

func (w *lineWriter) take(line []byte) {
	if w.line != nil {
		w.line(string(line))
	}
	w.last = append(append(w.last, line...), '\n')
	if len(w.last) > 2*tailSize {
		w.last = append([]byte(nil), w.last[len(w.last)-tailSize:]...)
	}
}

func (w *lineWriter) tail() string {
	return strings.TrimSpace(string(w.last[max(0, len(w.last)-tailSize):]))
}

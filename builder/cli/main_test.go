// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/imgbuild/imgbuild/builder/cli"
)

// The test binary is imgbuild when asCommand is set, as builder/cmd/imgbuild is: for what
// only a process of its own can show. With onTmpfs it mounts a tmpfs there first.
const (
	asCommand = "IMGBUILD_TEST_AS_COMMAND"
	onTmpfs   = "IMGBUILD_TEST_TMPFS" // directory:options
)

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) == "" {
		status := m.Run()
		_ = os.RemoveAll(compiled.dir)
		os.Exit(status)
	}
	if dir, options, ok := strings.Cut(os.Getenv(onTmpfs), ":"); ok {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
			fmt.Fprintf(os.Stderr, "mounting a tmpfs: %v\n", err)
			os.Exit(cannotMount)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), cli.EndingSignals()...)
	context.AfterFunc(ctx, stop)
	status := cli.Main(ctx, cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Args[1:])
	stop()
	os.Exit(status)
}

// cannotMount is the exit status of a child that may not mount.
const cannotMount = 77

// child is imgbuild in a process of its own.
type child struct {
	*exec.Cmd
	out, errs bytes.Buffer
}

// command prepares a command line of the site.
func (s *site) command(t *testing.T, args ...string) *child {
	t.Helper()
	c := &child{Cmd: exec.Command(os.Args[0], append(s.flags(), args...)...)}
	c.Env = append(os.Environ(), asCommand+"=1")
	c.Stdout, c.Stderr = &c.out, &c.errs
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// finish waits for the process, which may have been killed, and returns what it did.
func (c *child) finish(t *testing.T) outcome {
	t.Helper()
	var exit *exec.ExitError
	if err := c.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{c.ProcessState.ExitCode(), c.out.String(), c.errs.String()}
}

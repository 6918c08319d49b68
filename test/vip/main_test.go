// SPDX-License-Identifier: Apache-2.0

package vip

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/imgbuild/imgbuild/test/vip/lab"
)

// insideVariable is set in a process that runs the tests in namespaces of its own.
const insideVariable = "IMGBUILD_TEST_VIP_INSIDE"

// unusable is the exit status of such a process whose namespaces give it no privileges.
const unusable = 125

// TestMain makes an ordinary user root in a user namespace, who may make network namespaces.
func TestMain(m *testing.M) {
	if os.Getenv(insideVariable) != "" {
		if err := errors.Join(lab.RaiseLoopback(), lab.Possible()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(unusable)
		}
	} else if lab.Possible() != nil {
		if status := inside(); status != unusable {
			os.Exit(status)
		}
	}
	os.Exit(m.Run())
}

// inside runs this program again, in namespaces of its own, and returns its exit status.
func inside() int {
	runtime.LockOSThread() // Pdeathsig follows the thread that starts the process
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode()
	case errors.As(err, &exit):
		return 2 // ended by a signal
	}
	fmt.Fprintln(os.Stderr, "a user namespace:", err)
	return unusable
}

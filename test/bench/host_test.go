// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// What the kernel says in /proc and what it says in getrusage(2) is the same.
func TestProcessorTime(t *testing.T) {
	var before, after unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &before); err != nil {
		t.Fatal(err)
	}
	got, err := processorTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Getrusage(unix.RUSAGE_SELF, &after); err != nil {
		t.Fatal(err)
	}
	used := func(u unix.Rusage) float64 { return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9 }
	// User and system time are cut off to ticks, each on its own.
	if got < used(before)-2.0/ticks || got > used(after)+1.0/ticks {
		t.Errorf("%v s, getrusage says %v to %v", got, used(before), used(after))
	}
}

func TestProcessorTimeOfNobody(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if got, err := processorTime(cmd.Process.Pid); err == nil {
		t.Errorf("a process that has ended used %v s", got)
	}
}

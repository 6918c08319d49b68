// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/builder/tool"
)

// Host says where the numbers come from.
type Host struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	// Load is the load average of the last minute when the part began.
	Load string `json:"load"`
	Date string `json:"date"`
	Tool string `json:"imgbuild"`
}

func (b *bench) host() Host {
	read := func(path string) string {
		data, _ := os.ReadFile(path) // shown as it is; absent is empty
		return string(data)
	}
	h := Host{Cores: runtime.NumCPU(), Kernel: strings.TrimSpace(read("/proc/sys/kernel/osrelease")), Date: time.Now().UTC().Format(time.RFC3339)}
	for l := range strings.Lines(read("/proc/cpuinfo")) {
		if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == "model name" {
			h.CPU = strings.TrimSpace(v)
			break
		}
	}
	h.Load, _, _ = strings.Cut(read("/proc/loadavg"), " ")
	if out, err := exec.CommandContext(b.ctx, b.tool, "version").Output(); err == nil {
		h.Tool = strings.TrimSpace(string(out))
	}
	return h
}

// imgbuild runs the tool and returns what it prints.
func (b *bench) imgbuild(args ...string) (string, error) {
	cmd := exec.CommandContext(b.ctx, b.tool, append([]string{"--progress", "none"}, args...)...)
	cmd.Dir, cmd.Stderr = b.root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", cmd, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// component asks imgbuild for the programs of a component, which it builds if need be.
func (b *bench) component(name string) ([]string, error) {
	out, err := b.imgbuild("component", name)
	return strings.Fields(out), err
}

// qemu lays QEMU and its firmware out.
func (b *bench) qemu() (*tool.Set, error) {
	dir, err := b.imgbuild("tool", "path", "qemu")
	return tool.New(dir), err
}

// ticks is how many clock ticks of proc_pid_stat(5) a second has: USER_HZ, 100 on every
// architecture that runs this.
const ticks = 100

// processorTime is what a running process and its threads have used so far, in seconds.
func processorTime(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in parentheses and may hold anything.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields)+2)
	}
	var sum float64
	for _, f := range fields[11:13] { // utime and stime, fields 14 and 15
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		sum += float64(n)
	}
	return sum / ticks, nil
}

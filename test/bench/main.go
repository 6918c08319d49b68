// SPDX-License-Identifier: Apache-2.0

// Command bench measures what docs/benchmarks.md reports: how long a warm build takes, how
// much memory, how large the image is, and how long a machine takes from power-on to a Ready
// node beside stock kubeadm init on the same kernel and userland. It asserts nothing; a
// missed target is shown and the exit status stays 0.
//
//	go run ./test/bench [--runs 3] [--only build,image,boot] [--cpus 4] [--json out/bench.json]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// bench is one run of the benchmark.
type bench struct {
	ctx    context.Context
	root   string // the checkout
	image  string
	tool   string // out/imgbuild
	dir    string // scratch
	runs   int
	cpus   []int
	report *Report
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	runs := flag.Int("runs", 3, "how often each thing is measured")
	only := flag.String("only", "build,image,boot", "parts to run, separated by commas")
	cpus := flag.String("cpus", "", "virtual CPUs to boot with, separated by commas (default: 4, or 2 and 4 on a machine with fewer than 4)")
	output := flag.String("json", "out/bench.json", "where the report goes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bench{ctx: ctx, runs: *runs, report: &Report{Timelines: map[string]any{}}}
	if b.root, err = filepath.Abs("."); err != nil {
		return err
	}
	if b.cpus, err = processors(*cpus); err != nil {
		return err
	}
	b.tool = filepath.Join(b.root, "out/imgbuild")
	b.image = filepath.Join(b.root, "out/controlplane-amd64.raw")
	for _, f := range []string{b.tool, b.image} {
		if _, err := os.Stat(f); err != nil {
			return fmt.Errorf("%w; run make image first, and this from the top of the checkout", err)
		}
	}
	if b.dir, err = os.MkdirTemp(filepath.Join(b.root, "out"), ".bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	b.report.Host = b.host()
	parts := map[string]func() error{"build": b.build, "image": b.sizes, "boot": b.boot}
	for _, part := range strings.Split(*only, ",") {
		do, ok := parts[part]
		if !ok {
			return fmt.Errorf("--only %s: allowed are build, image and boot", part)
		}
		if err := do(); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", part, err), b.write(*output))
		}
	}
	return b.write(*output)
}

// processors reads the list of virtual CPU counts. A machine with two cores reports both
// what it can do and what the target speaks of.
func processors(list string) ([]int, error) {
	if list == "" {
		if runtime.NumCPU() < 4 {
			return []int{2, 4}, nil
		}
		return []int{4}, nil
	}
	var out []int
	for _, s := range strings.Split(list, ",") {
		var n int
		if _, err := fmt.Sscan(s, &n); err != nil || n < 1 {
			return nil, fmt.Errorf("--cpus %q: not a number of processors", s)
		}
		out = append(out, n)
	}
	slices.Sort(out)
	return out, nil
}

// write shows the report and keeps it.
func (b *bench) write(path string) error {
	text, err := json.MarshalIndent(b.report, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return b.report.Table(os.Stdout)
}

func (b *bench) host() Host {
	read := func(path string) string {
		data, _ := os.ReadFile(path) // shown as it is; absent is empty
		return string(data)
	}
	h := Host{Cores: runtime.NumCPU(), Kernel: strings.TrimSpace(read("/proc/sys/kernel/osrelease")), Date: time.Now().UTC().Format(time.RFC3339)}
	for _, l := range strings.Split(read("/proc/cpuinfo"), "\n") {
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

// say tells what is going on; results go to standard output, this does not.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().UTC().Format("15:04:05"), fmt.Sprintf(format, args...))
}

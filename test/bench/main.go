// SPDX-License-Identifier: Apache-2.0

// Command bench measures what docs/benchmarks.md reports: builds, the image, machines and
// clusters from power-on to Ready beside stock kubeadm on the same kernel and userland, and
// how long the virtual address is away. It asserts nothing: a missed target is shown, and the
// exit status stays 0. Only what cannot be measured is an error.
//
//	go run ./test/bench [flags] [PART...]
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/test/stock"
	"github.com/imgbuild/imgbuild/test/vip/lab"
)

// part is a benchmark that can be run alone. Its report is named after it.
type part struct {
	name, purpose string
	run           func(*bench) error
}

var parts = []part{
	{"build", "a warm build and a rebuild beside cp and sync of the image; memory of imgbuild", (*bench).build},
	{"image", "sizes of the image, the root file system and firstboot", (*bench).sizes},
	{"boot", "one machine from power-on to Ready beside stock kubeadm init; memory of both when idle", (*bench).boot},
	{"cluster", "clusters from power-on to all Ready beside stock kubeadm init, join, join; failover in the machines", (*bench).cluster},
	{"failover", "how long the virtual address is away, in network namespaces (needs root)", (*bench).failover},
}

// bench is one run of the benchmark.
type bench struct {
	options
	ctx    context.Context
	root   string // the checkout
	image  string
	tool   string       // out/imgbuild
	output string       // what is kept
	dir    string       // scratch
	media  *stock.Media // nil until somebody needs it
	// report is the current part's.
	report *Report
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	o, chosen, err := parse(args)
	if err != nil {
		return err
	}
	b := &bench{ctx: ctx, options: o}
	if b.root, err = filepath.Abs("."); err != nil {
		return err
	}
	b.tool = filepath.Join(b.root, "out/imgbuild")
	b.image = filepath.Join(b.root, "out/controlplane-amd64.raw")
	for _, f := range []string{b.tool, b.image} {
		if _, err := os.Stat(f); err != nil {
			return fmt.Errorf("%w; run make image first, and this from the top of the checkout", err)
		}
	}
	b.output = filepath.Join(b.root, "out/bench")
	if err := os.MkdirAll(b.output, 0o755); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(filepath.Join(b.root, "out"), ".bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	var errs []error
	for _, p := range chosen {
		if ctx.Err() != nil {
			break
		}
		errs = append(errs, b.measure(p))
	}
	return errors.Join(errs...)
}

// measure runs a part, shows what it found and keeps it, even when it could not finish.
func (b *bench) measure(p part) error {
	b.say("%s: %s", p.name, p.purpose)
	b.report = &Report{Part: p.name, Host: b.host()}
	var errs []error
	if err := p.run(b); errors.Is(err, lab.ErrPrivilege) && !b.asked {
		b.say("%s is left out: %v", p.name, err)
	} else if err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
	}
	file := filepath.Join(b.output, p.name+".json")
	if len(b.report.Measures) == 0 {
		return errors.Join(errs...) // and an earlier report stays
	}
	errs = append(errs, b.report.Write(file), b.report.Table(os.Stdout))
	fmt.Printf("\nin %s\n\n", file)
	return errors.Join(errs...)
}

// say tells what is going on; results go to standard output, this does not.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().UTC().Format("15:04:05"), fmt.Sprintf(format, args...))
}

// choose finds parts by name, in their own order; without names it is all of them.
func choose(names []string) ([]part, error) {
	if len(names) == 0 {
		return parts, nil
	}
	known := make([]string, 0, len(parts))
	var out []part
	for _, p := range parts {
		known = append(known, p.name)
		if slices.Contains(names, p.name) {
			out = append(out, p)
		}
	}
	for _, n := range names {
		if !slices.Contains(known, n) {
			return nil, fmt.Errorf("%q is no part of the benchmark: choose from %s", n, strings.Join(known, ", "))
		}
	}
	return out, nil
}

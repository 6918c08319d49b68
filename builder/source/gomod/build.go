// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/progress"
)

// Options are what a build needs beside the component.
type Options struct {
	// Arch is Go's name of the target architecture: amd64, arm64.
	Arch string
	// Dir receives the programs and a record of them (see Outputs). It exists, is empty
	// and is on a file system with room for copies of transformed modules.
	Dir string
	// Jobs limits how many compilers run at once; 0 leaves it to Go.
	Jobs int
	// Progress receives one task named after the component; nil for none.
	Progress progress.Sink
}

// Build compiles every program of a component into o.Dir and returns what it made. The
// first build of a large component takes minutes and downloads its modules; Go's own
// caches make later ones quick.
//
// Errors are classified: Network when a module can neither be found in the cache nor be
// fetched, MissingPin when its version is gone, Digest when its bytes are not those of
// go.sum, NoSpace, Interrupted, and Build for everything the compiler says.
func (t *Toolchain) Build(ctx context.Context, c *Component, o Options) (outputs []Output, err error) {
	sink := o.Progress
	if sink == nil {
		sink = progress.Discard
	}
	task := sink.Start("build "+c.Name, 0)
	defer func() { task.Done(err) }()
	scratch, err := os.MkdirTemp(o.Dir, ".stage-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)

	b := &build{Toolchain: t, c: c, o: o, task: task}
	task.Note("preparing")
	if b.dir, err = t.stage(ctx, c, scratch, b.downloading); err != nil {
		return nil, fmt.Errorf("component %s: %w", c.Name, err)
	}
	for _, prog := range c.Programs {
		out, err := b.program(ctx, prog)
		if err != nil {
			return nil, fmt.Errorf("component %s: %s: %w", c.Name, path.Base(prog.Path), err)
		}
		outputs = append(outputs, out)
	}
	return outputs, record(o.Dir, outputs)
}

// build is one run of Build.
type build struct {
	*Toolchain
	c    *Component
	o    Options
	dir  string
	task progress.Task
}

// program lists the packages of one program, which downloads what is missing, and then
// compiles and links them.
func (b *build) program(ctx context.Context, prog Program) (Output, error) {
	env := b.target(b.o.Arch)
	tags := strings.Join(slices.Concat(b.c.Tags, prog.Tags), ",")
	list, err := command{
		argv: []string{b.Path, "list", "-deps", "-mod=readonly", "-buildvcs=false", "-tags=" + tags, "-f={{.ImportPath}}", prog.Package},
		dir:  b.dir, env: env, line: b.downloading,
	}.run(ctx)
	if err != nil {
		return Output{}, err
	}
	packages := strings.Count(string(list), "\n")
	name := path.Base(prog.Path)
	b.task.Note(fmt.Sprintf("%s: %d packages", name, packages))

	file := filepath.Join(b.o.Dir, name)
	argv := []string{b.Path, "build", "-v", "-mod=readonly", "-trimpath", "-buildvcs=false", "-tags=" + tags, "-ldflags=" + b.c.ldflags(), "-o=" + file}
	if b.o.Jobs > 0 {
		argv = append(argv, "-p="+strconv.Itoa(b.o.Jobs))
	}
	compiled := 0
	_, err = command{argv: append(argv, prog.Package), dir: b.dir, env: env, line: func(line string) {
		if strings.HasPrefix(line, "#") || strings.Contains(line, " ") {
			return // a compiler's message, not the name of a package
		}
		compiled++
		b.task.Note(fmt.Sprintf("%s: compiled %d of at most %d packages", name, compiled, packages))
	}}.run(ctx)
	if err != nil {
		return Output{}, err
	}
	return newOutput(b.o.Dir, name, prog)
}

// downloading shows which module the go command is fetching.
func (b *build) downloading(line string) {
	if m, ok := strings.CutPrefix(line, downloading); ok {
		b.task.Note("downloading " + strings.Replace(m, " ", "@", 1))
	}
}

// ldflags returns what the linker is told: no symbol table, no debugging information, and
// the component's variables.
func (c *Component) ldflags() string {
	flags := "-s -w"
	for _, name := range slices.Sorted(maps.Keys(c.Variables)) {
		flags += fmt.Sprintf(" -X '%s=%s'", name, c.expand(c.Variables[name]))
	}
	return flags
}

// Tidy runs go mod tidy for a component, as its transforms leave it, and writes go.mod and
// go.sum back. Without it a component with transforms would have to require what the
// transforms take out.
func (t *Toolchain) Tidy(ctx context.Context, c *Component, scratch string) error {
	if c.Module.Checkout {
		return fault.New(fault.Usage, "run go mod tidy in the root", "component %s is part of the checkout's own module", c.Name)
	}
	dir, err := t.stage(ctx, c, scratch, nil)
	if err != nil {
		return err
	}
	if _, err := (command{argv: []string{t.Path, "mod", "tidy"}, dir: dir, env: t.target("amd64")}).run(ctx); err != nil || len(c.Transforms) == 0 {
		return err
	}
	return t.untransform(ctx, c, dir)
}

// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/builder/build"
	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/progress"
)

// buildFlags are those of the build verb, which is also what happens without a verb.
type buildFlags struct {
	profile, output string
	dryRun, json    bool
	force           bool
}

func (f *buildFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.profile, "profile", "", "profile to build (see 'imgbuild profiles')")
	flags.StringVarP(&f.output, "output", "o", "", "image file (default: out/<profile>-<arch>.raw)")
	flags.BoolVarP(&f.dryRun, "dry-run", "n", false, "print the plan and write nothing")
	flags.BoolVar(&f.json, "json", false, "print the result as JSON")
	flags.BoolVar(&f.force, "force", false, "build even if the image is up to date")
}

func (a *app) buildCommand() *cobra.Command {
	f := &buildFlags{}
	cmd := &cobra.Command{
		Use:   "build --profile NAME",
		Short: "Build an image (what happens without a verb, too)",
		Long: "Build makes the image that a profile and the lock describe, unless it is there already. A file\n" +
			"that has the image's name is replaced, in one step, when the new image is complete and on disk.\n" +
			"Beside it a file with the extension .json records what was built.",
		Example: "  imgbuild build --profile worker --output /srv/images/worker.raw",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.build(cmd.Context(), f) },
	}
	f.register(cmd)
	a.completeProfiles(cmd)
	return cmd
}

// releaseMirror is the environment variable that names a mirror of official artefacts.
const releaseMirror = "IMGBUILD_RELEASE_MIRROR"

// project loads a profile with everything its build starts from.
func (a *app) project(ctx context.Context, name, output string) (*build.Project, error) {
	if name == "" {
		return nil, fault.New(fault.Usage, "name one with --profile; 'imgbuild profiles' lists them", "no profile named")
	}
	env, err := a.env()
	if err != nil {
		return nil, err
	}
	return build.Load(ctx, env, name, output)
}

func (a *app) env() (build.Env, error) {
	if !slices.Contains(lock.Architectures, a.arch) {
		return build.Env{}, fault.New(fault.Usage, "use one of "+strings.Join(lock.Architectures, ", "), "--arch: unknown architecture %q", a.arch)
	}
	root, err := a.root()
	if err != nil {
		return build.Env{}, err
	}
	st, err := a.openStore()
	if err != nil {
		return build.Env{}, err
	}
	sink, err := a.progress()
	return build.Env{Root: root, Store: st, Sink: sink, Arch: a.arch, Mirror: a.mirror, ReleaseMirror: os.Getenv(releaseMirror), Offline: a.offline}, err
}

func (a *app) build(ctx context.Context, f *buildFlags) error {
	p, err := a.project(ctx, f.profile, f.output)
	if err != nil {
		return err
	}
	if f.dryRun {
		return a.printPlan(p.Plan, f.json, false)
	}
	collectSeldom()
	start := time.Now()
	result, upToDate, err := p.Make(ctx, f.force)
	if err != nil {
		return err
	}
	a.closeProgress()
	if f.json {
		return writeJSON(a.Out, result)
	}
	if upToDate {
		fmt.Fprintf(a.Out, "%s is up to date (root hash %s)\n", p.Output, result.Root.Hash)
		return nil
	}
	return printResult(a.Out, p.Output, result, time.Since(start))
}

// collectSeldom makes the garbage collector wait for more garbage, as most of what a build
// allocates stays until its end, but not for more than half a gigabyte of memory.
func collectSeldom() {
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(512 << 20)
}

func printResult(w io.Writer, path string, r *build.Result, took time.Duration) error {
	fmt.Fprintf(w, "%s in %.1f s\n", path, took.Seconds())
	fmt.Fprintf(w, "root hash  %s\n", r.Root.Hash)
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, p := range r.Partitions {
		fmt.Fprintf(table, "%s\t%s\tof %s\n", p.Slot, progress.Size(p.Used), progress.Size(p.Size))
	}
	return table.Flush()
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// SPDX-License-Identifier: Apache-2.0

// Package cli is imgbuild's command line: one file per verb, and the only package of the
// builder that prints. Results go to standard output, progress and errors to standard
// error, so that `imgbuild inspect --json IMAGE | jq` always works.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/progress"
	"github.com/imgbuild/imgbuild/builder/store"
)

// Version is stamped by the Makefile.
var Version = "unknown"

// Streams are what a process has for standard input, output and error.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Main runs one command line and returns the exit status that docs/exit-codes.md documents.
// When ctx ends, the work in progress is stopped and cleaned up before Main returns.
func Main(ctx context.Context, io Streams, args []string) int {
	app := &app{Streams: io}
	root := app.command()
	root.SetArgs(args)
	root.SetIn(io.In)
	root.SetOut(io.Out)
	root.SetErr(io.Err)
	err := root.ExecuteContext(ctx)
	app.closeProgress()
	app.closeStores()
	if err != nil {
		fmt.Fprintf(io.Err, "imgbuild: %s\n", message(ctx, err))
	}
	return exitStatus(ctx, err)
}

// exitStatus maps an error to the status of its class. Once the run was told to end, every
// error is a consequence of that: a compiler that was killed did not fail.
func exitStatus(ctx context.Context, err error) int {
	switch class := fault.ClassOf(err); {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		return int(fault.Interrupted)
	case class != fault.Unclassified:
		return int(class)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return int(fault.NoSpace)
	default:
		return 1
	}
}

func message(ctx context.Context, err error) string {
	if ctx.Err() != nil {
		return "interrupted: finished downloads and results stay in the cache, partial downloads go on\n" +
			"  where they stopped, and nothing half-written is left\n  next: run the same command again"
	}
	return err.Error()
}

// app carries what every verb shares: streams, global flags, progress.
type app struct {
	Streams
	source, cache, progressMode, mirror string
	arch                                string
	offline                             bool

	bars   *progress.Bars
	sink   progress.Sink
	stores []*store.Store
}

func (a *app) command() *cobra.Command {
	build := &buildFlags{}
	root := &cobra.Command{
		Use:   "imgbuild [--profile NAME]",
		Short: "Build sealed, bootable Kubernetes node images",
		Long: strings.TrimSpace(`
imgbuild turns a profile and a lock file into a sealed, read-only, bootable node image,
without root, loop devices or containers. Without a verb it builds. The exit status tells
kinds of failure apart: docs/exit-codes.md lists them.`),
		Example: "  imgbuild --profile controlplane\n" +
			"  imgbuild plan --profile controlplane\n" +
			"  imgbuild run --profile controlplane\n" +
			"  imgbuild inspect out/controlplane-amd64.raw",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().NFlag() == 0 {
				return cmd.Help()
			}
			return a.build(cmd.Context(), build)
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.source, "source", "", "directory that holds profiles/ and assets/ (default: the nearest one upwards)")
	flags.StringVar(&a.cache, "cache-dir", "", "content store (default: $XDG_CACHE_HOME/imgbuild)")
	flags.StringVar(&a.progressMode, "progress", "auto", "progress display: auto, bars, plain or none")
	flags.StringVar(&a.mirror, "mirror", "", "base URL of the Debian archive (default: $IMGBUILD_DEBIAN_MIRROR, the profile, the host's apt sources)")
	flags.StringVar(&a.arch, "arch", "amd64", "target architecture: amd64 or arm64")
	flags.BoolVar(&a.offline, "offline", false, "use the cache only and name what it lacks")
	build.register(root)

	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fault.Wrap(fault.Usage, err, "see '"+cmd.CommandPath()+" --help'")
	})
	root.AddCommand(a.buildCommand(), a.planCommand(), a.runCommand(), a.inspectCommand(), a.lockCommand(),
		a.profilesCommand(), a.clusterCommand(), a.componentCommand(), a.cacheCommand(), a.toolCommand(), a.versionCommand())
	usageErrors(root)
	root.SetHelpCommand(helpCommand())
	a.completeProfiles(root)
	a.completeValues(root, "progress", progressModes)
	a.completeValues(root, "arch", lock.Architectures)
	return root
}

// helpCommand is cobra's own, but for an unknown verb being an error.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [VERB]", Short: "Help about any verb",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return fault.New(fault.Usage, "see 'imgbuild --help'", "there is no verb %q", strings.Join(args, " "))
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// completeValues lets the shell complete a flag that takes one of a few values.
func (a *app) completeValues(cmd *cobra.Command, flag string, values []string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// usageErrors gives argument errors the Usage class; cobra reports them as plain errors.
func usageErrors(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			return fault.Wrap(fault.Usage, check(cmd, args), "see '"+cmd.CommandPath()+" --help'")
		}
	}
	for _, sub := range cmd.Commands() {
		usageErrors(sub)
	}
}

// root returns the directory with profiles/ and assets/.
func (a *app) root() (string, error) {
	if a.source != "" {
		if !isCheckout(a.source) {
			return "", fault.New(fault.Usage, "name the directory that holds profiles/ and assets/ with --source", "%s holds no profiles/ and assets/", a.source)
		}
		return filepath.Abs(a.source)
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		if isCheckout(d) {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fault.New(fault.Usage, "run it inside a checkout, or name one with --source",
				"%s and the directories above it hold no profiles/ and assets/", dir)
		}
	}
}

func isCheckout(dir string) bool {
	return isDir(filepath.Join(dir, "profiles")) && isDir(filepath.Join(dir, "assets"))
}

func isDir(p string) bool {
	info, err := os.Stat(p)
	return err == nil && info.IsDir()
}

func (a *app) openStore() (*store.Store, error) {
	dir := a.cache
	if dir == "" {
		var err error
		if dir, err = store.DefaultDir(); err != nil {
			return nil, err
		}
	}
	st, err := store.Open(dir)
	if err == nil {
		a.stores = append(a.stores, st)
	}
	return st, err
}

// closeStores lets 'cache prune' of other processes go ahead.
func (a *app) closeStores() {
	for _, st := range a.stores {
		_ = st.Close()
	}
}

var progressModes = []string{"auto", "bars", "plain", "none"}

// progress returns the sink that --progress and the terminal ask for.
func (a *app) progress() (progress.Sink, error) {
	if a.sink != nil {
		return a.sink, nil
	}
	mode := a.progressMode
	if mode == "auto" {
		mode = "plain"
		if f, ok := a.Err.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
			mode = "bars"
		}
	}
	switch mode {
	case "bars":
		a.bars = progress.NewBars(a.Err)
		a.sink = a.bars
	case "plain":
		a.sink = progress.Plain(a.Err, 5*time.Second)
	case "none":
		a.sink = progress.Discard
	default:
		return nil, fault.New(fault.Usage, "use one of "+strings.Join(progressModes, ", "), "--progress: unknown display %q", mode)
	}
	return a.sink, nil
}

func (a *app) closeProgress() {
	if a.bars != nil {
		a.bars.Close()
		a.bars = nil
	}
	a.sink = nil
}

// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/builder/build"
	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/lock/resolve"
	"github.com/imgbuild/imgbuild/builder/source/deb"
	"github.com/imgbuild/imgbuild/builder/source/fetch"
	"github.com/imgbuild/imgbuild/builder/source/gomod"
)

func (a *app) lockCommand() *cobra.Command {
	var name string
	var dryRun, asJSON bool
	cmd := &cobra.Command{
		Use:   "lock [--profile NAME]",
		Short: "Re-resolve every pin, show what changed and write the lock",
		Long: "Lock resolves all profiles and tools against the signed Debian archive and asks the Go\n" +
			"module proxy for the components' modules. One version of a package serves every profile,\n" +
			"so all are resolved together; --profile limits what is shown.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			env, err := a.env()
			if err != nil {
				return err
			}
			opts := resolve.Options{
				Root: env.Root, Architecture: env.Arch, Store: env.Store, Now: time.Now(),
				Mirror: deb.MirrorOptions{Flag: env.Mirror},
				Fetch:  fetch.Options{Sink: env.Sink, Offline: env.Offline},
				Modules: func(ctx context.Context, names []string) ([]lock.Module, error) {
					return pinComponents(ctx, env, names)
				},
			}
			_, pins, diff, err := resolve.Update(cmd.Context(), opts)
			if err != nil {
				return err
			}
			a.closeProgress()
			shown, err := ofProfile(diff, pins, name)
			if err != nil {
				return err
			}
			write := len(diff) > 0 && !dryRun
			if write {
				if err := pins.Save(opts.Path()); err != nil {
					return err
				}
			}
			if asJSON {
				return writeJSON(a.Out, shown)
			}
			if err := printChanges(a.Out, shown); err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.Out, lockSummary(opts.Path(), len(diff), len(shown), write))
			return err
		},
	}
	cmd.Flags().StringVar(&name, "profile", "", "show only what changes for this profile")
	cmd.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "show the changes and write nothing")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the changes as JSON")
	a.completeProfiles(cmd)
	return cmd
}

// pinComponents pins the modules of components, all problems at once.
func pinComponents(ctx context.Context, env build.Env, names []string) ([]lock.Module, error) {
	go_, err := gomod.FindToolchain(ctx, env.Store.Dir())
	if err != nil {
		return nil, err
	}
	var pins []lock.Module
	var problems []error
	for _, name := range names {
		c, err := gomod.Load(env.Root, name)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		task := env.Sink.Start("pin component "+name, 0)
		pin, err := go_.Pin(ctx, c)
		task.Done(err)
		pins = append(pins, pin)
		problems = append(problems, err)
	}
	return pins, errors.Join(problems...)
}

// lockSummary says in a line what became of the lock file at path.
func lockSummary(path string, changes, shown int, written bool) string {
	switch {
	case changes == 0:
		return "every pin is current"
	case !written && shown < changes:
		return fmt.Sprintf("%d of %d changes shown; %s is unchanged", shown, changes, path)
	case !written:
		return fmt.Sprintf("%d changes; %s is unchanged", changes, path)
	case shown < changes:
		return fmt.Sprintf("%d of %d changes shown; all are written to %s", shown, changes, path)
	}
	return fmt.Sprintf("%d changes written to %s", changes, path)
}

// ofProfile keeps the changes of packages that a profile's sets hold; all without a profile.
func ofProfile(diff lock.Diff, pins *lock.Lock, profile string) (lock.Diff, error) {
	if profile == "" {
		return append(lock.Diff{}, diff...), nil
	}
	wanted := map[string]bool{}
	for _, set := range []string{lock.RootSet(profile), lock.InitrdSet(profile)} {
		packages, err := pins.Set(set)
		if err != nil {
			return nil, err
		}
		for _, p := range packages {
			wanted[p.Name] = true
		}
	}
	out := lock.Diff{}
	for _, c := range diff {
		if c.Kind != "package" || wanted[c.Name] {
			out = append(out, c)
		}
	}
	return out, nil
}

func printChanges(w io.Writer, diff lock.Diff) error {
	if len(diff) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "KIND\tNAME\tOLD\tNEW")
	for _, c := range diff {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", c.Kind, c.Name, orDash(c.Old), orDash(c.New))
	}
	return table.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/imgbuild/imgbuild/builder/profile"
)

func (a *app) profilesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "profiles [NAME]",
		Short: "List the profiles, or print one with everything it inherits",
		Args:  cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeArgument(func(root string) ([]string, error) {
			return profile.List(os.DirFS(root))
		}),
		RunE: func(_ *cobra.Command, args []string) error {
			root, err := a.root()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				p, err := profile.Load(os.DirFS(root), args[0])
				if err != nil {
					return err
				}
				enc := yaml.NewEncoder(a.Out)
				enc.SetIndent(2)
				return enc.Encode(p)
			}
			return a.listProfiles(root)
		},
	}
}

func (a *app) listProfiles(root string) error {
	names, err := profile.List(os.DirFS(root))
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(a.Out, 0, 4, 2, ' ', 0)
	for _, name := range names {
		p, err := profile.Load(os.DirFS(root), name)
		if err != nil {
			return err
		}
		note := ""
		if p.Abstract {
			note = " (abstract)"
		}
		fmt.Fprintf(table, "%s%s\t%s\n", name, note, p.Description)
	}
	return table.Flush()
}

// completeProfiles lets the shell complete --profile with those that can be built.
func (a *app) completeProfiles(cmd *cobra.Command) {
	_ = cmd.RegisterFlagCompletionFunc("profile", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		root, err := a.root()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names, _ := profile.List(os.DirFS(root))
		names = slices.DeleteFunc(names, func(name string) bool {
			p, err := profile.Load(os.DirFS(root), name)
			return err == nil && p.Abstract
		})
		return names, cobra.ShellCompDirectiveNoFileComp
	})
}

// completeArgument lets the shell complete the only argument of a verb from the checkout.
func (a *app) completeArgument(of func(root string) ([]string, error)) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		root, err := a.root()
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names, _ := of(root)
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

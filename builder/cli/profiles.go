// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
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

// completeProfiles lets the shell complete --profile.
func (a *app) completeProfiles(cmd *cobra.Command) {
	_ = cmd.RegisterFlagCompletionFunc("profile", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		root, err := a.root()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names, _ := profile.List(os.DirFS(root))
		return names, cobra.ShellCompDirectiveNoFileComp
	})
}

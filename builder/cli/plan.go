// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/builder/plan"
	"github.com/imgbuild/imgbuild/builder/progress"
)

func (a *app) planCommand() *cobra.Command {
	var name, output string
	var asJSON, inputs bool
	cmd := &cobra.Command{
		Use:   "plan --profile NAME",
		Short: "Print the steps of a build, their inputs and what is cached; write nothing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := a.project(cmd.Context(), name, output)
			if err != nil {
				return err
			}
			return a.printPlan(p.Plan, asJSON, inputs)
		},
	}
	cmd.Flags().StringVar(&name, "profile", "", "profile to plan")
	cmd.Flags().StringVarP(&output, "output", "o", "", "image file the plan is for")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the plan as JSON, inputs included")
	cmd.Flags().BoolVar(&inputs, "inputs", false, "list every input with version and digest")
	a.completeProfiles(cmd)
	return cmd
}

func (a *app) printPlan(p *plan.Plan, asJSON, inputs bool) error {
	if asJSON {
		return writeJSON(a.Out, p)
	}
	table := tabwriter.NewWriter(a.Out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "STEP\tSTATE\tINPUTS\tPURPOSE")
	for _, s := range p.Steps {
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\n", s.Name, state(s), len(s.Inputs), s.Purpose)
		if !inputs {
			continue
		}
		for _, in := range s.Inputs {
			fmt.Fprintf(table, "  %s\t%s\t%.12s\t%s\n", in.Name, in.Version, in.Digest, in.Origin)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "\nto download: %s\nplan key:    %s\n", progress.Size(p.Download()), p.Key)
	return nil
}

// state says what will happen to a step.
func state(s *plan.Step) string {
	switch missing := s.Missing(); {
	case s.Cached:
		return "cached"
	case s.Kind == plan.Root || s.Kind == plan.Image:
		return "always"
	case missing < len(s.Inputs) && (s.Kind == plan.Fetch || s.Kind == plan.Unpack):
		return fmt.Sprintf("%d missing", missing)
	}
	return "to do"
}

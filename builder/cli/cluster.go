// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/builder/cluster"
	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

func (a *app) clusterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Describe a cluster in one file and make every host's config from it",
		Example: "  imgbuild cluster init --name demo --control-planes 3 --workers 2 > cluster.yaml\n" +
			"  imgbuild cluster check cluster.yaml\n" +
			"  imgbuild cluster render cluster.yaml -o demo",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fault.New(fault.Usage, "see 'imgbuild cluster --help'", "name what to do: init, check or render")
		},
	}
	cmd.AddCommand(a.clusterInitCommand(), a.clusterCheckCommand(), a.clusterRenderCommand())
	return cmd
}

func (a *app) clusterInitCommand() *cobra.Command {
	var o cluster.StarterOptions
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Print a commented cluster.yaml to start from",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			text, err := cluster.Starter(o)
			if err != nil {
				return err
			}
			_, err = a.Out.Write(text)
			return err
		},
	}
	cmd.Flags().StringVar(&o.Name, "name", "demo", "name of the cluster")
	cmd.Flags().IntVar(&o.ControlPlanes, "control-planes", 3, "number of control planes")
	cmd.Flags().IntVar(&o.Workers, "workers", 2, "number of workers")
	return cmd
}

func (a *app) clusterCheckCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Report everything that is wrong with a cluster.yaml; write nothing",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := cluster.Load(args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.Out, struct {
					Cluster  string          `json:"cluster"`
					Hosts    int             `json:"hosts"`
					Warnings strict.Problems `json:"warnings"`
				}{s.Cluster.Name, len(s.Cluster.Hosts), s.Warnings})
			}
			a.clusterWarnings(s.Warnings)
			fmt.Fprintf(a.Out, "%s: cluster %s with %d control planes and %d workers is fine\n", args[0], s.Cluster.Name,
				len(s.Cluster.ControlPlanes()), len(s.Cluster.Hosts)-len(s.Cluster.ControlPlanes()))
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the outcome as JSON")
	return cmd
}

func (a *app) clusterWarnings(warnings strict.Problems) {
	for _, w := range warnings {
		fmt.Fprintf(a.Err, "warning: %s\n", strings.Replace(w.Error(), "; allowed: ", "; better: ", 1))
	}
}

func (a *app) clusterRenderCommand() *cobra.Command {
	var output string
	var asJSON, dryRun bool
	cmd := &cobra.Command{
		Use:   "render FILE -o DIRECTORY",
		Short: "Make authorities, tokens, one Ignition config per host and a kubeconfig",
		Long: "Render brings a directory to what a cluster.yaml says and prints what changed. Secrets that\n" +
			"are there are kept, so that rendering again adds, replaces or removes single hosts. Whoever\n" +
			"has the directory has the cluster: its files can be read by their owner only.",
		Example: "  imgbuild cluster render cluster.yaml -o demo\n" +
			"  imgbuild cluster render cluster.yaml -o demo --dry-run --json",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.clusterRender(cmd.Context(), args[0], output, dryRun, asJSON)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "directory to render into (default: the cluster's name)")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would change and write nothing")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the outcome as JSON")
	return cmd
}

func (a *app) clusterRender(ctx context.Context, file, output string, dryRun, asJSON bool) error {
	s, err := cluster.Load(file)
	if err != nil {
		return err
	}
	if output == "" {
		output = s.Cluster.Name
	}
	r, err := cluster.Render(ctx, s, cluster.Options{Dir: output, DryRun: dryRun, Now: time.Now()})
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(a.Out, r)
	}
	a.clusterWarnings(r.Warnings)
	return a.clusterSummary(r)
}

func (a *app) clusterSummary(r *cluster.Result) error {
	counts := map[cluster.Action]int{}
	table := tabwriter.NewWriter(a.Out, 0, 4, 2, ' ', 0)
	for _, c := range r.Changes {
		counts[c.Action]++
		if c.Action == cluster.Unchanged {
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", c.Action, c.File, c.Subject)
		for _, d := range c.Detail {
			fmt.Fprintf(table, "\t  %s\t\n", d)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	would := ""
	if r.DryRun {
		would = ", nothing written"
	}
	fmt.Fprintf(a.Out, "%s: %d added, %d changed, %d removed, %d unchanged%s\n", r.Dir, counts[cluster.Added], counts[cluster.Changed],
		counts[cluster.Removed], counts[cluster.Unchanged], would)
	for _, p := range r.Pending {
		fmt.Fprintf(a.Out, "waiting for %s\n", p)
	}
	for _, n := range r.Next {
		fmt.Fprintf(a.Out, "next: %s\n", n)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
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
			return fault.New(fault.Usage, "see 'imgbuild cluster --help'", "name what to do: init, check, render or kubeconfig")
		},
	}
	cmd.AddCommand(a.clusterInitCommand(), a.clusterCheckCommand(), a.clusterRenderCommand(), a.clusterKubeconfigCommand())
	return cmd
}

func (a *app) clusterInitCommand() *cobra.Command {
	var o cluster.StarterOptions
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Print a commented cluster.yaml to start from",
		Long: "Init prints a file that passes every check as it is. Addresses and hardware addresses in it\n" +
			"are examples: replace them by those of your hosts.",
		Example: "  imgbuild cluster init --name demo --control-planes 3 --workers 2 > cluster.yaml",
		Args:    cobra.NoArgs,
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
		Long: "Check reads the file and every file that it names, and reports all problems at once, each with\n" +
			"file, line, column, key, value and what is allowed. What is allowed and probably not meant is a\n" +
			"warning. The exit status is 3 when there is a problem.",
		Example: "  imgbuild cluster check cluster.yaml\n" +
			"  imgbuild cluster check cluster.yaml --json | jq -r '.problems[].path'",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeYAML,
		RunE:              func(_ *cobra.Command, args []string) error { return a.clusterCheck(args[0], asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the outcome as JSON, problems included")
	return cmd
}

// completeYAML lets the shell complete the one file that a verb takes.
func completeYAML(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
}

// checked is what check says to programs. With problems nothing is said of the cluster.
type checked struct {
	Cluster       string `json:"cluster,omitempty"`
	Hosts         int    `json:"hosts,omitempty"`
	ControlPlanes int    `json:"controlPlanes,omitempty"`
	// Problems is empty when the file can be rendered.
	Problems strict.Problems `json:"problems"`
	Warnings strict.Problems `json:"warnings"`
}

func (a *app) clusterCheck(file string, asJSON bool) error {
	s, err := cluster.Load(file)
	if err != nil {
		out := checked{Problems: strict.Problems{}, Warnings: strict.Problems{}}
		if asJSON && errors.As(err, &out.Problems) {
			return errors.Join(err, writeJSON(a.Out, out))
		}
		return err
	}
	planes := len(s.Cluster.ControlPlanes())
	if asJSON {
		return writeJSON(a.Out, checked{Cluster: s.Cluster.Name, Hosts: len(s.Cluster.Hosts), ControlPlanes: planes,
			Problems: strict.Problems{}, Warnings: append(strict.Problems{}, s.Warnings...)})
	}
	a.clusterWarnings(s.Warnings)
	fmt.Fprintf(a.Out, "%s: cluster %s with %s and %s is fine\n", file, s.Cluster.Name,
		counted(planes, "control plane"), counted(len(s.Cluster.Hosts)-planes, "worker"))
	return nil
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
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
		Use:   "render FILE [-o DIRECTORY]",
		Short: "Make authorities, tokens, one Ignition config per host and a kubeconfig",
		Long: "Render brings a directory to what a cluster.yaml says and prints what changed. Secrets that\n" +
			"are there are kept, so that rendering again adds, replaces or removes single hosts. Whoever\n" +
			"has the directory has the cluster: its files can be read by their owner only.",
		Example: "  imgbuild cluster render cluster.yaml -o demo\n" +
			"  imgbuild cluster render cluster.yaml -o demo --dry-run --json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeYAML,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.clusterRender(cmd.Context(), args[0], output, dryRun, asJSON)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "directory to render into (default: the cluster's name)")
	_ = cmd.MarkFlagDirname("output")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would change and write nothing")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the outcome as JSON")
	return cmd
}

func (a *app) clusterKubeconfigCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "kubeconfig DIRECTORY",
		Short: "Fetch the administrator's kubeconfig from a cluster that keeps its authorities (pki.mode generate)",
		Long: "The administrator's key never leaves the rendered directory. The control planes sign a certificate\n" +
			"for it, which this fetches. Whom to believe follows from the bootstrap token; from then on the\n" +
			"cluster's authority is in the directory, and rendering again tells it to every host.",
		Example: "  imgbuild cluster kubeconfig demo",
		Args:    cobra.ExactArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := cluster.Kubeconfig(cmd.Context(), args[0], cluster.Way{})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.Out, file)
			return err
		},
	}
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

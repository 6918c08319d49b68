// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/builder/inspect"
	"github.com/imgbuild/imgbuild/builder/manifest"
	"github.com/imgbuild/imgbuild/builder/progress"
)

func (a *app) inspectCommand() *cobra.Command {
	var asJSON, verify, packages bool
	cmd := &cobra.Command{
		Use:   "inspect IMAGE",
		Short: "Print what is in an image: partitions, root hash, versions, sizes, pins",
		Example: "  imgbuild inspect out/controlplane-amd64.raw\n" +
			"  imgbuild inspect --verify --json out/controlplane-amd64.raw",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			sink, err := a.progress()
			if err != nil {
				return err
			}
			image, err := inspect.File(cmd.Context(), args[0], inspect.Options{Verify: verify, Sink: sink})
			a.closeProgress()
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.Out, image)
			}
			return printImage(a.Out, image, packages)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print everything as JSON")
	cmd.Flags().BoolVar(&verify, "verify", false, "check every block of the root against the root hash")
	cmd.Flags().BoolVar(&packages, "packages", false, "list every package, not only their number")
	return cmd
}

func printImage(w io.Writer, im *inspect.Image, packages bool) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(table, name+"\t"+format+"\n", args...) }
	row("image", "%s (%s)", im.Path, im.Architecture)
	row("size", "%s, %s on disk, %d-byte sectors", progress.Size(im.Size), progress.Size(im.Allocated), im.SectorSize)
	row("name", "%s", im.OSRelease["PRETTY_NAME"])
	row("id", "%s %s", im.OSRelease["IMAGE_ID"], im.OSRelease["IMAGE_VERSION"])
	row("root hash", "%s%s", im.Root.Hash, verified(im.Root.Verified))
	row("root", "%s in %d files, hash tree %s, dated %s", progress.Size(im.Root.DataSize), im.Root.Files,
		progress.Size(im.Root.HashSize), time.Unix(im.Root.Timestamp, 0).UTC().Format(time.DateOnly))
	for _, k := range im.Kernels {
		row("kernel", "%s (%s, %s)", k.Release, k.Path, progress.Size(k.Size))
		row("command line", "%s", k.CommandLine)
	}
	fmt.Fprintln(table)
	fmt.Fprintln(table, "PARTITION\tTYPE\tLABEL\tOFFSET\tSIZE\tUUID")
	for _, p := range im.Partitions {
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\n", p.Number, p.TypeName, p.Label, progress.Size(p.Offset), progress.Size(p.Size), p.UUID)
	}
	if len(im.Manifest) > 0 {
		if err := printManifest(table, im.Manifest, packages); err != nil {
			return err
		}
	}
	return table.Flush()
}

func verified(yes bool) string {
	if yes {
		return " (every block verified)"
	}
	return ""
}

func printManifest(w io.Writer, doc json.RawMessage, packages bool) error {
	var m manifest.Manifest
	if err := json.Unmarshal(doc, &m); err != nil {
		return err
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "COMPONENT\tVERSION\tRECIPE\tMODULE")
	for _, c := range m.Components {
		fmt.Fprintf(w, "%s\t%s\t%.12s\t%s\n", c.Name, c.Version, c.Recipe, c.Module)
	}
	if len(m.Releases) > 0 {
		fmt.Fprintln(w)
		fmt.Fprintln(w, "RELEASE\tVERSION\tSHA-256\tURL")
	}
	for _, r := range m.Releases {
		fmt.Fprintf(w, "%s\t%s\t%.12s\t%s\n", r.Name, r.Version, r.SHA256, r.URL)
	}
	fmt.Fprintln(w)
	if !packages {
		_, err := fmt.Fprintf(w, "packages\t%d (list them with --packages)\nplan key\t%s\n", len(m.Packages), m.Key)
		return err
	}
	fmt.Fprintln(w, "PACKAGE\tVERSION\tSHA-256\tSOURCE")
	for _, p := range m.Packages {
		source, _, _ := strings.Cut(p.Source, " ")
		fmt.Fprintf(w, "%s\t%s\t%.12s\t%s\n", p.Name, p.Version, p.SHA256, source)
	}
	return nil
}

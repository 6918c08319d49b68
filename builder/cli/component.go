// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/builder/build"
	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/source/gomod"
)

func (a *app) componentCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "component [NAME]",
		Short: "List the components, or build one and copy its program out of the store",
		Example: "  imgbuild component firstboot --output out/firstboot\n" +
			"  imgbuild component kubernetes",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeArgument(gomod.Names),
		RunE: func(cmd *cobra.Command, args []string) error {
			env, err := a.env()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				names, err := gomod.Names(env.Root)
				for _, name := range names {
					fmt.Fprintln(a.Out, name)
				}
				return err
			}
			go_, err := gomod.FindToolchain(cmd.Context(), env.Store.Dir())
			if err != nil {
				return err
			}
			c, key, err := build.LoadComponent(env.Root, args[0], go_.Version, env.Arch)
			if err != nil {
				return err
			}
			entry, err := build.Component(cmd.Context(), env, c, key)
			if err != nil {
				return err
			}
			outputs, err := gomod.Outputs(entry.Dir)
			if err != nil {
				return err
			}
			a.closeProgress()
			return a.copyPrograms(entry.Dir, outputs, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "copy the component's only program to this file")
	return cmd
}

func (a *app) copyPrograms(dir string, outputs []gomod.Output, to string) error {
	if to == "" {
		for _, o := range outputs {
			fmt.Fprintf(a.Out, "%s\n", filepath.Join(dir, o.File))
		}
		return nil
	}
	if len(outputs) != 1 {
		return fault.New(fault.Usage, "leave --output out: the paths of all are printed", "the component has %d programs, --output takes one", len(outputs))
	}
	return copyFile(filepath.Join(dir, outputs[0].File), to)
}

// copyFile replaces to by a copy of from. The old file stays until the copy is complete.
func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Chmod(0o755), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), to)
}

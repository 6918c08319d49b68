// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/builder/build"
	"github.com/imgbuild/imgbuild/builder/fault"
)

func (a *app) toolCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "tool", Short: "Use the programs that the lock pins besides images", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.toolPath(), a.toolRun(), a.toolCC())
	return cmd
}

func (a *app) toolPath() *cobra.Command {
	return &cobra.Command{
		Use: "path SET", Short: "Lay a tool set out in the store and print its directory", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			env, err := a.env()
			if err != nil {
				return err
			}
			set, err := build.Tool(cmd.Context(), env, args[0])
			a.closeProgress()
			if err == nil {
				fmt.Fprintln(a.Out, set.Dir)
			}
			return err
		},
	}
}

func (a *app) toolRun() *cobra.Command {
	cmd := &cobra.Command{
		Use: "run SET PROGRAM [ARG...]", Short: "Run a program of a tool set", Args: cobra.MinimumNArgs(2),
		Example: "  imgbuild tool run verify sgdisk -v out/controlplane-amd64.raw",
		RunE: func(cmd *cobra.Command, args []string) error {
			env, err := a.env()
			if err != nil {
				return err
			}
			set, err := build.Tool(cmd.Context(), env, args[0])
			if err != nil {
				return err
			}
			a.closeProgress()
			program, err := set.Command(cmd.Context(), args[1], args[2:]...)
			if err != nil {
				return err
			}
			program.Stdin, program.Stdout, program.Stderr = a.In, a.Out, a.Err
			err = program.Run()
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				return fault.New(fault.Build, "", "%s: %v", args[1], err)
			}
			return err
		},
	}
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func (a *app) toolCC() *cobra.Command {
	return &cobra.Command{
		Use: "cc", Short: "Print the path of a C compiler made of locked packages", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			env, err := a.env()
			if err != nil {
				return err
			}
			path, err := build.CCompiler(cmd.Context(), env)
			a.closeProgress()
			if err == nil {
				fmt.Fprintln(a.Out, path)
			}
			return err
		},
	}
}

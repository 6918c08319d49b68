// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/builder/progress"
	"github.com/imgbuild/imgbuild/builder/store"
)

func (a *app) cacheCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "cache", Short: "Show, verify or prune the content store", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.cacheSize(), a.cacheVerify(), a.cachePrune())
	return cmd
}

func (a *app) cacheSize() *cobra.Command {
	return &cobra.Command{
		Use: "size", Short: "Print where the store is and what it holds", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			st, err := a.openStore()
			if err != nil {
				return err
			}
			items, err := st.Usage()
			if err != nil {
				return err
			}
			var count, size [store.PartialItem + 1]int64
			for _, it := range items {
				count[it.Kind]++
				size[it.Kind] += it.Size
			}
			fmt.Fprintln(a.Out, st.Dir())
			for _, kind := range []store.ItemKind{store.BlobItem, store.EntryItem, store.PartialItem} {
				fmt.Fprintf(a.Out, "%6d %ss\t%s\n", count[kind], kind, progress.Size(size[kind]))
			}
			return nil
		},
	}
}

func (a *app) cacheVerify() *cobra.Command {
	return &cobra.Command{
		Use: "verify", Short: "Read everything and drop what is damaged", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := a.openStore()
			if err != nil {
				return err
			}
			good, bad := 0, 0
			err = st.VerifyAll(cmd.Context(), func(it store.Item, problem error) {
				if problem == nil {
					good++
					return
				}
				bad++
				fmt.Fprintf(a.Out, "dropped %s %.12s: %v\n", it.Kind, it.Name, problem)
			})
			fmt.Fprintf(a.Out, "%d good, %d dropped\n", good, bad)
			return err
		},
	}
}

func (a *app) cachePrune() *cobra.Command {
	var unused time.Duration
	cmd := &cobra.Command{
		Use: "prune", Short: "Remove what no build has used for a while", Args: cobra.NoArgs,
		Example: "  imgbuild cache prune --unused 720h",
		RunE: func(*cobra.Command, []string) error {
			st, err := a.openStore()
			if err != nil {
				return err
			}
			limit := time.Now().Add(-unused)
			freed, err := st.Prune(func(it store.Item) bool { return it.Used.After(limit) })
			fmt.Fprintf(a.Out, "freed %s\n", progress.Size(freed))
			return err
		},
	}
	cmd.Flags().DurationVar(&unused, "unused", 30*24*time.Hour, "keep what was used within this time")
	return cmd
}

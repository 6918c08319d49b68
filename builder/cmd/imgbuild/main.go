// SPDX-License-Identifier: Apache-2.0

// Command imgbuild turns a profile and a lock file into a sealed, bootable node image.
package main

import (
	"context"
	"os"
	"os/signal"

	"github.com/imgbuild/imgbuild/builder/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), cli.EndingSignals()...)
	// The first signal stops the work and cleans up; from then on a second one ends the
	// process at once, which leaves files that the next run removes.
	context.AfterFunc(ctx, stop)
	status := cli.Main(ctx, cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Args[1:])
	stop()
	os.Exit(status)
}

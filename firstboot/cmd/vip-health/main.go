// SPDX-License-Identifier: Apache-2.0

// Command vip-health tells keepalived whether this machine's API server is healthy. See
// package health; vip-health.service runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	"github.com/imgbuild/imgbuild/firstboot/vip/health"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vip-health:", err)
		os.Exit(1)
	}
}

// run is main with its arguments and its log given.
func run(ctx context.Context, args []string, log io.Writer) error {
	w := health.Defaults()
	flags := flag.NewFlagSet("vip-health", flag.ContinueOnError)
	flags.SetOutput(log)
	flags.StringVar(&w.Endpoint, "endpoint", "", "host:port of the API server")
	flags.StringVar(&w.StateFile, "state", "", "file that says 1 while it is healthy")
	flags.TextVar(&w.Address, "address", netip.Addr{}, "virtual address")
	flags.StringVar(&w.OwnerFile, "owner", "", "file that says 1 while it is healthy and this machine has the address; not kept without --address")
	flags.StringVar(&w.CAFile, "ca", w.CAFile, "authority of its certificate")
	flags.DurationVar(&w.Period, "period", w.Period, "time between checks")
	flags.DurationVar(&w.Timeout, "timeout", w.Timeout, "how long a check may take")
	clean := flags.Bool("clear", false, "remove the files and end")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case w.StateFile == "":
		return errors.New("--state names no file")
	case *clean:
		return health.Clear(w.StateFile, w.OwnerFile)
	case w.Endpoint == "":
		return errors.New("--endpoint names no server")
	case w.Period <= 0 || w.Timeout <= 0:
		return errors.New("--period and --timeout must be longer than 0s")
	}
	w.Changed = func(healthy bool, why error) {
		if healthy {
			fmt.Fprintln(log, w.Endpoint, "is healthy")
		} else {
			fmt.Fprintln(log, w.Endpoint, "is not healthy:", why)
		}
	}
	w.Beat = func() { _ = health.Notify("WATCHDOG=1") } // a manager that is gone needs no beat
	if err := health.Notify("READY=1"); err != nil {
		return err
	}
	return w.Run(ctx)
}

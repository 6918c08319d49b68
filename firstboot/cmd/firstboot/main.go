// SPDX-License-Identifier: Apache-2.0

// Command firstboot brings a machine into its Kubernetes cluster once, when it boots for
// the first time. See package verbs.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/imgbuild/imgbuild/firstboot/cmd/verbs"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := verbs.Main(ctx, verbs.OS(), os.Args[1:])
	stop()
	os.Exit(code)
}

// SPDX-License-Identifier: Apache-2.0

// Command shim is containerd-shim-runc-v2, the parent of a pod's containers. It is a
// program of its own and not an applet of the daemon: it starts for every pod, and what it
// links is what every pod pays for in start time and memory.
package main

import (
	"context"

	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/manager"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task/plugin"
	"github.com/containerd/containerd/v2/pkg/shim"
)

func main() { shim.RunShim(context.Background(), manager.NewShimManager("io.containerd.runc.v2")) }

// SPDX-License-Identifier: Apache-2.0

// Command pause holds a pod's namespaces and, when the pod shares its process namespace,
// adopts and reaps orphans as its process 1. It sleeps until SIGINT or SIGTERM arrives and
// uses print instead of package fmt to stay small: one runs per pod.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

var version = "unversioned"

func main() {
	if len(os.Args) > 1 && os.Args[1] == "-v" {
		os.Stdout.WriteString("imgbuild pause " + version + "\n")
		return
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	reap() // children that ended before Notify, when started with exec
	for s := range signals {
		if s != syscall.SIGCHLD {
			os.Exit(0)
		}
		reap()
	}
}

// reap collects every ended child: one SIGCHLD may stand for several.
func reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if pid <= 0 {
			return
		}
	}
}

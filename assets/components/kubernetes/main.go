// SPDX-License-Identifier: Apache-2.0

// Command kubernetes is every Kubernetes program of a node in one file. The name it is
// called by chooses the program, so that links named kubelet, kube-apiserver and so on
// behave like the programs upstream ships; "kubernetes NAME ARGUMENTS" does the same
// without a link. The programs share nearly all of their code, so that one file is a
// quarter of the size of six, and pages of it are shared between all that run.
package main

import (
	"context"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // CronJob time zones, as upstream embeds them in the API server and the controller manager

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	_ "github.com/imgbuild/imgbuild/assets/components/kubernetes/english"
)

// programs maps a name to what runs under it and returns the exit status.
var programs = map[string]func() int{
	"kubelet":                 command(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
	"kube-apiserver":          command(apiserver.NewAPIServerCommand),
	"kube-controller-manager": command(controllermanager.NewControllerManagerCommand),
	"kube-scheduler":          command(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kube-proxy":              command(proxy.NewProxyCommand),
	"kubectl":                 kubectl,
}

// command builds the command line only when its program was chosen: constructing one
// registers flags and metrics that the others must not see.
func command(construct func() *cobra.Command) func() int {
	return func() int { return cli.Run(construct()) }
}

func main() {
	run := programs[path.Base(os.Args[0])]
	if run == nil && len(os.Args) > 1 {
		if run = programs[os.Args[1]]; run != nil {
			os.Args = os.Args[1:]
		}
	}
	if run == nil {
		fmt.Fprintf(os.Stderr, "usage: kubernetes PROGRAM [ARGUMENT...]\nPROGRAM is one of %s, or the name this file is called by.\n", names())
		os.Exit(2)
	}
	deferCollection()
	os.Exit(run())
}

// deferCollection keeps the garbage collector away from a program that starts. Nearly all
// that is allocated then stays, and a heap that is collected whenever it has doubled, from
// four megabytes on, is gone through a dozen times in a few seconds, by every processor.
// An allocation that is never touched takes no memory and counts as heap; it goes once the
// program has started, and the heap returns to what it would have been.
func deferCollection() {
	const heap, start = 96 << 20, time.Minute
	ballast := make([]byte, heap)
	time.AfterFunc(start, func() { runtime.KeepAlive(ballast) })
}

func names() string {
	var all []string
	for name := range programs {
		all = append(all, name)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

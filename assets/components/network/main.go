// SPDX-License-Identifier: Apache-2.0

// Command network is flannel's daemon and CoreDNS in one file, chosen by the name it is
// called by: most of each is the same client of Kubernetes. Flannel is a program upstream;
// the component's transforms make it a package with an exported Main.
package main

import (
	"flag"
	"fmt"
	"os"
	"path"

	"github.com/flannel-io/flannel"
	"k8s.io/klog/v2"

	"github.com/imgbuild/imgbuild/assets/components/network/dns"
)

func main() {
	os.Args = flannel.Args
	switch name := path.Base(os.Args[0]); name {
	case "coredns":
		withoutLogFlags()
		dns.Main()
	case "flanneld":
		flannel.Main()
	default:
		fmt.Fprintf(os.Stderr, "%s is neither coredns nor flanneld: call this program through a link\n", name)
		os.Exit(2)
	}
}

// withoutLogFlags takes back the flags of klog that flannel added to those of the process.
func withoutLogFlags() {
	logging := flag.NewFlagSet("", flag.ContinueOnError)
	klog.InitFlags(logging)
	own := flag.NewFlagSet(os.Args[0], flag.ExitOnError)
	flag.VisitAll(func(f *flag.Flag) {
		if logging.Lookup(f.Name) == nil {
			own.Var(f.Value, f.Name, f.Usage)
		}
	})
	flag.CommandLine = own
}

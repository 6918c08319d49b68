// SPDX-License-Identifier: Apache-2.0

package flannel

import (
	"os"
	"path"
)

// Args are the arguments of the process. Flannel reads its own when it is initialized, in
// main.go, before anybody can choose another program: when the process is not flanneld, it
// finds none. Variables are initialized before all of a package's functions init.
var Args = hideArgs()

func hideArgs() []string {
	all := os.Args
	if path.Base(all[0]) != "flanneld" {
		os.Args = all[:1]
	}
	return all
}

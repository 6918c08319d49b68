// SPDX-License-Identifier: Apache-2.0

// Command etcd is the etcd server and its client etcdctl in one file, chosen by the name
// it is called by.
package main

import (
	"os"
	"path"

	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	if path.Base(os.Args[0]) == "etcdctl" {
		ctlv3.MustStart()
		return
	}
	etcdmain.Main(os.Args)
}

// SPDX-License-Identifier: Apache-2.0

// Command launch becomes the program that IMGBUILD_TEST_LAUNCH names, a JSON list of arguments,
// with its own arguments added. haproxy executes itself again to reload, by a name that knows
// nothing of the loader it was started with.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"syscall"
)

func main() {
	var argv []string
	err := json.Unmarshal([]byte(os.Getenv("IMGBUILD_TEST_LAUNCH")), &argv)
	if err == nil && len(argv) > 0 {
		err = syscall.Exec(argv[0], append(argv, os.Args[1:]...), os.Environ())
	}
	fmt.Fprintln(os.Stderr, "launch:", err)
	os.Exit(1)
}

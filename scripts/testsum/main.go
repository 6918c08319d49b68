// SPDX-License-Identifier: Apache-2.0

// Command testsum adds up the results in files of `go test -json` output and prints one
// line, "N passed, N failed, N skipped", after the names of what failed. It exits with 1
// when a test failed, or when none ran.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

type event struct{ Action, Package, Test string }

func main() {
	counts := map[string]int{}
	for _, name := range os.Args[1:] {
		if err := add(counts, name); err != nil {
			fmt.Fprintln(os.Stderr, "testsum:", err)
			os.Exit(2)
		}
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", counts["pass"], counts["fail"], counts["skip"])
	if counts["fail"] > 0 || counts["pass"] == 0 {
		os.Exit(1)
	}
}

// add counts the tests of one file. A package that fails without a failing test (it did
// not compile, or panicked outside one) counts as one failure.
func add(counts map[string]int, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	failedIn := map[string]bool{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // a compiler message between the events
		}
		switch {
		case e.Action == "fail" && (e.Test != "" || !failedIn[e.Package]):
			failedIn[e.Package] = true
			fmt.Println("failed:", e.Package, e.Test)
			counts["fail"]++
		case e.Test != "":
			counts[e.Action]++
		}
	}
	return lines.Err()
}

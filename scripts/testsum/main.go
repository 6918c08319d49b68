// SPDX-License-Identifier: Apache-2.0

// Command testsum adds up the results in files of `go test -json` output and prints one
// line, "N passed, N failed, N skipped", after the names of what failed. It exits with 1
// when a test failed, or when none ran.
//
// A test that was skipped because the machine has no namespaces for it counts as failed: it is
// one of those that every machine for development can run. IMGBUILD_TEST_NO_NAMESPACES=1 says
// that this one cannot.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// allowVariable lets tests be skipped for want of namespaces when it is 1.
const allowVariable = "IMGBUILD_TEST_NO_NAMESPACES"

// wanting is how tests say that they are skipped for want of them: user namespaces, network
// namespaces, or what takes a user namespace, another root directory and a mount.
var wanting = regexp.MustCompile(`namespace|change the root|no small disk`)

// message is how what a test says begins.
var message = regexp.MustCompile(`^\s+\S+\.go:\d+: `)

type event struct{ Action, Package, Test, Output string }

func main() {
	s := &sum{out: os.Stdout, allowed: os.Getenv(allowVariable) == "1", counts: map[string]int{}}
	for _, name := range os.Args[1:] {
		if err := s.file(name); err != nil {
			fmt.Fprintln(os.Stderr, "testsum:", err)
			os.Exit(2)
		}
	}
	if !s.end() {
		os.Exit(1)
	}
}

// sum is what was counted.
type sum struct {
	out     io.Writer
	allowed bool // skips for want of namespaces
	denied  int
	counts  map[string]int
}

func (s *sum) file(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.add(f)
}

// add counts the tests of one file. A package that fails without a failing test (it did
// not compile, or panicked outside one) counts as one failure.
func (s *sum) add(r io.Reader) error {
	failedIn := map[string]bool{}
	said := map[[2]string]string{} // the last message of a test, which is why it is skipped
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // a compiler message between the events
		}
		test := [2]string{e.Package, e.Test}
		switch {
		case e.Action == "output":
			if message.MatchString(e.Output) {
				said[test] = ""
			}
			said[test] += e.Output
		case e.Action == "fail" && (e.Test != "" || !failedIn[e.Package]):
			failedIn[e.Package] = true
			fmt.Fprintln(s.out, "failed:", e.Package, e.Test)
			s.counts["fail"]++
		case e.Action == "skip" && e.Test != "" && !s.allowed && wanting.MatchString(said[test]):
			why, _, _ := strings.Cut(strings.TrimSpace(said[test]), "\n")
			fmt.Fprintf(s.out, "failed: %s %s was skipped: %s\n", e.Package, e.Test, why)
			s.denied++
			s.counts["fail"]++
		case e.Test != "":
			s.counts[e.Action]++
		}
	}
	return lines.Err()
}

// end prints the closing line and says whether all is well.
func (s *sum) end() bool {
	if s.denied > 0 {
		fmt.Fprintf(s.out, "Tests that need namespaces must not be skipped unseen. Allow user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns), or set %s=1 to do without these tests.\n", allowVariable)
	}
	fmt.Fprintf(s.out, "%d passed, %d failed, %d skipped\n", s.counts["pass"], s.counts["fail"], s.counts["skip"])
	return s.counts["fail"] == 0 && s.counts["pass"] > 0
}

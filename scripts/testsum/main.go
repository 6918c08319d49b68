// SPDX-License-Identifier: Apache-2.0

// Command testsum adds up the results in files of `go test -json` output and prints one
// line, "N passed, N failed, N skipped", after what failed and what that said. It exits with 1
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
	"slices"
	"strings"
)

// allowVariable lets tests be skipped for want of namespaces when it is 1.
const allowVariable = "IMGBUILD_TEST_NO_NAMESPACES"

// wanting is how tests say that they are skipped for want of them: user namespaces, network
// namespaces, or what takes a user namespace, another root directory and a mount.
var wanting = regexp.MustCompile(`namespace|change the root|no small disk`)

// message is how what a test says begins: the place in its source.
var message = regexp.MustCompile(`^\s+(\S+\.go:\d+): `)

// crash is how what ends a package's tests begins.
var crash = regexp.MustCompile(`^(panic: |fatal error: |WARNING: DATA RACE)`)

// crashLines is how much is quoted of it: the goroutine that did it.
const crashLines = 15

// A failed test is quoted with at most this many messages, each from a place that said no more
// than progress messages do: the reason is rare, and the log of a boot is long.
const (
	quoted   = 10
	progress = 3
)

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
	said := map[[2]string][]string{} // messages of tests; the last one is why a test is skipped
	crashed := map[string][]string{} // by package
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // a compiler message between the events
		}
		test := [2]string{e.Package, e.Test}
		if n := len(crashed[e.Package]); e.Action == "output" && n < crashLines && (n > 0 || crash.MatchString(e.Output)) {
			crashed[e.Package] = append(crashed[e.Package], e.Output)
		}
		if e.Action == "fail" && e.Test == "" {
			for _, line := range crashed[e.Package] {
				fmt.Fprint(s.out, "    ", line)
			}
		}
		switch {
		case e.Action == "output":
			if n := len(said[test]); message.MatchString(e.Output) {
				said[test] = append(said[test], e.Output)
			} else if n > 0 {
				said[test][n-1] += e.Output
			}
		case e.Action == "fail" && (e.Test != "" || !failedIn[e.Package]):
			failedIn[e.Package] = true
			fmt.Fprintln(s.out, "failed:", e.Package, e.Test)
			s.quote(said[test])
			s.counts["fail"]++
		case e.Action == "skip" && e.Test != "" && !s.allowed && wanting.MatchString(last(said[test])):
			fmt.Fprintf(s.out, "failed: %s %s was skipped: %s\n", e.Package, e.Test, firstLine(last(said[test])))
			s.denied++
			s.counts["fail"]++
		case e.Test != "":
			s.counts[e.Action]++
		}
	}
	return lines.Err()
}

// quote prints the last messages of a failed test that are not one of many from the same place.
func (s *sum) quote(messages []string) {
	site := func(m string) string { return message.FindStringSubmatch(m)[1] }
	times := map[string]int{}
	for _, m := range messages {
		times[site(m)]++
	}
	rare := slices.DeleteFunc(slices.Clone(messages), func(m string) bool { return times[site(m)] > progress })
	for _, m := range rare[max(0, len(rare)-quoted):] {
		fmt.Fprintln(s.out, "   ", firstLine(m))
	}
}

func last(messages []string) string {
	if len(messages) == 0 {
		return ""
	}
	return messages[len(messages)-1]
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// end prints the closing line and says whether all is well.
func (s *sum) end() bool {
	if s.denied > 0 {
		fmt.Fprintf(s.out, "Tests that need namespaces must not be skipped unseen. Allow user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns), or set %s=1 to do without these tests.\n", allowVariable)
	}
	fmt.Fprintf(s.out, "%d passed, %d failed, %d skipped\n", s.counts["pass"], s.counts["fail"], s.counts["skip"])
	return s.counts["fail"] == 0 && s.counts["pass"] > 0
}

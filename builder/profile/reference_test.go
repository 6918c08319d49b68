// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite generated files; the run fails, so that it is not left on")

func TestReference(t *testing.T) {
	want, err := Reference()
	if err != nil {
		t.Fatal(err)
	}
	const name = "../../docs/reference/profile.md"
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Fatalf("%s was rewritten; run again without -update", name)
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the types say; run go test ./builder/profile -run TestReference -update", name)
	}
	for _, key := range []string{"`sectorSize`", "`omit` (optional)", "[Layout](#layout)", "`control-plane`"} {
		if !strings.Contains(want, key) {
			t.Errorf("the reference does not mention %s", key)
		}
	}
	for line := range strings.SplitSeq(want, "\n") {
		if strings.HasSuffix(line, "|  |") {
			t.Errorf("a key without an explanation: %s", line)
		}
	}
}

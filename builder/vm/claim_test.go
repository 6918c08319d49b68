// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/tool"
)

// A second run of a cluster touches nothing of the first.
func TestSecondRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	if err := idle(dir); err != nil {
		t.Errorf("before the first run: %v", err)
	}
	release, err := claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := idle(dir); fault.ClassOf(err) != fault.Usage {
		t.Errorf("while it runs: %v", err)
	}
	socket := filepath.Join(dir, "cp-1", linkSocket)
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(socket, []byte("the first's"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = StartFleet(t.Context(), tool.New("/nonexistent"), FleetOptions{Dir: dir, Hosts: []FleetHost{{Name: "cp-1"}}, Network: netip.MustParsePrefix("10.9.0.1/24")})
	if fault.ClassOf(err) != fault.Usage {
		t.Errorf("a second run: %v", err)
	}
	if text, err := os.ReadFile(socket); string(text) != "the first's" {
		t.Errorf("the first run's socket: %q %v", text, err)
	}
	release()
	if err := idle(dir); err != nil {
		t.Errorf("after the first run: %v", err)
	}
}

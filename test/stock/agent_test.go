// SPDX-License-Identifier: Apache-2.0

package stock

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAgent runs the agent as a process and talks to it as to a machine.
func TestAgent(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "agent")
	build := exec.Command("go", "build", "-o", program, "./agent")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	agent := exec.Command(program, at)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
	var asked string
	a := Agent{Name: "w-1", Address: netip.MustParseAddr("192.0.2.11"), Dial: func(ctx context.Context, address string) (net.Conn, error) {
		asked = address
		return (&net.Dialer{}).DialContext(ctx, "tcp", at)
	}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := a.Await(ctx); err != nil {
		t.Fatal(err)
	}
	if asked != "192.0.2.11:7077" {
		t.Errorf("the agent is looked for at %s", asked)
	}
	out, err := a.Run(ctx, "echo out; echo err >&2; cat <<'END'\na $b\nEND\n")
	if err != nil || out != "out\nerr\na $b\n" {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := a.Run(ctx, "echo why; false; echo not reached"); err == nil || !strings.Contains(err.Error(), "w-1: exit status 1\nwhy\n") || strings.Contains(err.Error(), "not reached") {
		t.Errorf("a script that fails: %v", err)
	}
	file := filepath.Join(dir, "secret")
	if _, err := a.Run(ctx, "umask 077; echo x > "+file); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

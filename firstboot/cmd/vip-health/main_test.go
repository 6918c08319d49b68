// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWrongUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "--state names no file"},
		{[]string{"--state", "x"}, "--endpoint names no server"},
		{[]string{"--state", "x", "--endpoint", "h:1", "--period", "0s"}, "longer than 0s"},
		{[]string{"--address", "x"}, "invalid value"},
		{[]string{"--nonsense"}, "not defined"},
	} {
		if err := run(t.Context(), c.args, io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
}

func TestStateEndsUnhealthyAndIsCleared(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	state := filepath.Join(t.TempDir(), "state")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ended, []string{"--state", state, "--endpoint", "127.0.0.1:1"}, io.Discard); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(state); err != nil || string(text) != "0\n" {
		t.Errorf("%q %v", text, err)
	}
	if err := run(t.Context(), []string{"--state", state, "--clear"}, io.Discard); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(state); !os.IsNotExist(err) {
		t.Error(err)
	}
}

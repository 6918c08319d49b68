// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
)

// fakeQEMU answers commands the way QEMU's monitor does.
func fakeQEMU(conn net.Conn, answer func(command string) string) {
	defer conn.Close()
	fmt.Fprintln(conn, `{"QMP": {"version": {}, "capabilities": ["oob"]}}`)
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		var c struct{ Execute string }
		if json.Unmarshal(lines.Bytes(), &c) != nil {
			return
		}
		text := answer(c.Execute)
		if text == "" {
			return
		}
		fmt.Fprintln(conn, text)
	}
}

func TestQMP(t *testing.T) {
	server, client := net.Pipe()
	go fakeQEMU(server, func(command string) string {
		switch command {
		case "qmp_capabilities":
			return `{"event": "RESUME", "data": {"x": 1}}` + "\n" + `{"return": {}}`
		case "human-monitor-command":
			return `{"return": "some\r\ntext"}`
		case "bad":
			return `{"error": {"class": "CommandNotFound", "desc": "no such command"}}`
		}
		return ""
	})
	var events []string
	q, err := newQMP(t.Context(), client, func(name string, data json.RawMessage) { events = append(events, name+string(data)) })
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != 1 || events[0] != `RESUME{"x": 1}` {
		t.Errorf("events %q", events)
	}
	if text, err := q.human(t.Context(), "info usernet"); text != "some\r\ntext" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := q.do(t.Context(), "bad", nil); err == nil || !strings.Contains(err.Error(), "CommandNotFound: no such command") {
		t.Errorf("bad: %v", err)
	}
	if _, err := q.do(t.Context(), "hang-up", nil); !errors.Is(err, errQMPClosed) {
		t.Errorf("hang-up: %v", err)
	}
}

func TestQMPGivesUp(t *testing.T) {
	server, client := net.Pipe()
	defer server.Close()
	go bufio.NewReader(server).ReadString(0) // reads and never answers
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newQMP(ctx, client, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// qmp is a client of the QEMU Machine Protocol: JSON objects over a socket, a greeting and a
// capabilities exchange first, then one answer per command with events in between.
type qmp struct {
	conn io.ReadWriteCloser
	// events receives asynchronous messages; it may be nil.
	events func(name string, data json.RawMessage)

	mu      sync.Mutex // one command at a time
	answers chan qmpMessage
	closed  chan struct{}
	err     error
}

type qmpMessage struct {
	QMP    json.RawMessage `json:"QMP"`
	Event  string          `json:"event"`
	Data   json.RawMessage `json:"data"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

var errQMPClosed = errors.New("QEMU closed its monitor")

// newQMP greets QEMU and leaves negotiation mode.
func newQMP(ctx context.Context, conn io.ReadWriteCloser, events func(string, json.RawMessage)) (*qmp, error) {
	q := &qmp{conn: conn, events: events, answers: make(chan qmpMessage, 1), closed: make(chan struct{})}
	go q.read()
	if _, err := q.do(ctx, "qmp_capabilities", nil); err != nil {
		conn.Close()
		return nil, fmt.Errorf("greeting QEMU's monitor: %w", err)
	}
	return q, nil
}

func (q *qmp) read() {
	defer close(q.closed)
	dec := json.NewDecoder(q.conn)
	for {
		var m qmpMessage
		if err := dec.Decode(&m); err != nil {
			q.err = errQMPClosed
			if !errors.Is(err, io.EOF) {
				q.err = fmt.Errorf("%w: %w", errQMPClosed, err)
			}
			return
		}
		switch {
		case m.Event != "":
			if q.events != nil {
				q.events(m.Event, m.Data)
			}
		case m.QMP == nil:
			select {
			case q.answers <- m:
			default: // nobody waits: the command was given up
			}
		}
	}
}

// do runs one command and returns its result.
func (q *qmp) do(ctx context.Context, command string, arguments any) (json.RawMessage, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	text, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	if _, err := q.conn.Write(append(text, '\n')); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", command, errQMPClosed, err)
	}
	select {
	case m := <-q.answers:
		if m.Error != nil {
			return nil, fmt.Errorf("%s: QEMU says %s: %s", command, m.Error.Class, m.Error.Desc)
		}
		return m.Return, nil
	case <-q.closed:
		return nil, fmt.Errorf("%s: %w", command, q.err)
	case <-ctx.Done():
		q.conn.Close() // a late answer would be taken for the next command's
		return nil, fmt.Errorf("%s: %w", command, ctx.Err())
	}
}

// human runs a command of the human monitor and returns what it prints.
func (q *qmp) human(ctx context.Context, line string) (string, error) {
	raw, err := q.do(ctx, "human-monitor-command", map[string]string{"command-line": line})
	if err != nil {
		return "", err
	}
	var text string
	return text, json.Unmarshal(raw, &text)
}

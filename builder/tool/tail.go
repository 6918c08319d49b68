// SPDX-License-Identifier: Apache-2.0

package tool

import (
	"strings"
	"sync"
)

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
	cut bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailBytes; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
		t.cut = true
	}
	return len(p), nil
}

// String returns the last lines, printable, with "..." where something was left out.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.ToValidUTF8(strings.TrimSpace(string(t.buf)), "?")
	text = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return -1 // no terminal control sequences from a tool
		}
		return r
	}, text)
	lines := strings.Split(text, "\n")
	cut := t.cut
	if len(lines) > tailLines {
		lines, cut = lines[len(lines)-tailLines:], true
	}
	if cut {
		lines[0] = "..." + lines[0]
	}
	return strings.Join(lines, "\n")
}

// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Line is one line of the serial console without control sequences.
type Line struct {
	// At is the time since QEMU was started, or since the last reset.
	At   time.Duration
	Text string
}

// controls matches what terminals interpret: CSI and OSC sequences, other escapes, and C0
// characters except tab.
var controls = regexp.MustCompile(`\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b[ -/]*[0-~]|[\x00-\x08\x0b-\x1f\x7f]`)

// Clean removes control sequences and trailing blanks from console output, and what a
// carriage return overwrote is kept: a log is read, not watched.
func Clean(s string) string { return strings.TrimRight(controls.ReplaceAllString(s, ""), " \t") }

// maxLine bounds one console line; a guest that never ends its line must not fill memory.
const maxLine = 16 << 10

// console splits a stream into lines, remembers the last ones and passes each on.
type console struct {
	now  func() time.Time
	each func(Line)

	mu    sync.Mutex
	start time.Time
	tail  []Line
}

// tailLines is how many lines errors quote.
const tailLines = 25

// copy reads r until its end. Empty lines are dropped.
func (c *console) copy(r io.Reader) {
	var partial []byte
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		for _, b := range buf[:n] {
			if b != '\n' && len(partial) < maxLine {
				partial = append(partial, b)
				continue
			}
			c.line(string(partial))
			partial = partial[:0]
		}
		if err != nil {
			c.line(string(partial))
			return
		}
	}
}

func (c *console) line(raw string) {
	text := Clean(raw)
	if text == "" {
		return
	}
	l := Line{At: c.since(), Text: text}
	c.mu.Lock()
	if c.tail = append(c.tail, l); len(c.tail) > tailLines {
		c.tail = c.tail[1:]
	}
	c.mu.Unlock()
	if c.each != nil {
		c.each(l)
	}
}

func (c *console) since() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now().Sub(c.start)
}

// began is when times began to count.
func (c *console) began() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.start
}

// restart makes times count from now.
func (c *console) restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.start = c.now()
}

// last returns the last lines as text.
func (c *console) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, l := range c.tail {
		b.WriteString("  | " + l.Text + "\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

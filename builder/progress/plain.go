// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// noticeable is how long a task runs before its end is worth a line: a build has hundreds
// of tasks that end at once.
const noticeable = time.Second

// Plain returns a Sink that writes one line every interval while a task runs and one when
// it ends, unless it was over before anybody would have wondered. It suits logs and pipes.
func Plain(w io.Writer, interval time.Duration) Sink {
	return &plain{w: w, interval: interval, now: time.Now}
}

type plain struct {
	mu       sync.Mutex
	w        io.Writer
	interval time.Duration
	now      func() time.Time
}

func (p *plain) Start(name string, total int64) Task {
	t := p.now()
	return &plainTask{sink: p, name: name, total: total, started: t, last: t}
}

type plainTask struct {
	sink          *plain
	name, note    string
	total, done   int64
	started, last time.Time
	ended         bool
}

func (t *plainTask) Total(n int64) {
	t.sink.mu.Lock()
	defer t.sink.mu.Unlock()
	t.total = n
}

func (t *plainTask) Add(n int64) {
	t.sink.mu.Lock()
	defer t.sink.mu.Unlock()
	t.done += n
	t.tick()
}

func (t *plainTask) Note(text string) {
	t.sink.mu.Lock()
	defer t.sink.mu.Unlock()
	t.note = text
	t.tick()
}

// tick writes a line when the last one is old enough. The sink's lock is held.
func (t *plainTask) tick() {
	now := t.sink.now()
	if t.ended || now.Sub(t.last) < t.sink.interval {
		return
	}
	t.last = now
	fmt.Fprintf(t.sink.w, "  ... %s%s\n", t.name, t.state())
}

func (t *plainTask) Done(err error) {
	t.sink.mu.Lock()
	defer t.sink.mu.Unlock()
	if t.ended {
		return
	}
	t.ended = true
	took := t.sink.now().Sub(t.started).Round(10 * time.Millisecond)
	switch {
	case errors.Is(err, context.Canceled): // by the user, or because another task failed
		fmt.Fprintf(t.sink.w, "  stopped %s after %s\n", t.name, took)
	case err != nil:
		fmt.Fprintf(t.sink.w, "  FAIL %s after %s\n", t.name, took)
	case took >= noticeable:
		fmt.Fprintf(t.sink.w, "  ok  %s%s %s\n", t.name, t.state(), took)
	}
}

func (t *plainTask) state() string {
	s := ""
	switch {
	case t.total > 0 && !t.ended:
		s += fmt.Sprintf(" %s of %s (%d%%)", Size(t.done), Size(t.total), 100*t.done/t.total)
	case t.done > 0:
		s += " " + Size(t.done)
	}
	if t.note != "" {
		s += " (" + t.note + ")"
	}
	return s
}

// Size formats a number of bytes with a binary unit: "512 B", "1.5 MiB".
func Size(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, units := float64(n)/1024, []string{"KiB", "MiB", "GiB", "TiB", "PiB"}
	i := 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

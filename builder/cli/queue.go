// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"io"
	"sync"
)

// queue is a writer that makes nobody wait: what is written is remembered, and one goroutine
// brings it to w. Whoever reads a console must not wait for a pager or a stopped terminal, or
// the machines would stop with it.
//
// It has no bound. What machines say in a run is some megabytes, a hundredth of their memory,
// and neither losing a part of it nor waiting would be better.
type queue struct {
	w io.Writer
	// broken is called once when w takes no more, and what is left is dropped.
	broken func(error)

	mu      sync.Mutex
	more    sync.Cond
	pending bytes.Buffer
	closed  bool
	err     error
	done    chan struct{}
}

func newQueue(w io.Writer, broken func(error)) *queue {
	q := &queue{w: w, broken: broken, done: make(chan struct{})}
	q.more.L = &q.mu
	go q.run()
	return q
}

// Write remembers p. It fails when an earlier write did.
func (q *queue) Write(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return 0, q.err
	}
	q.more.Signal()
	return q.pending.Write(p)
}

func (q *queue) run() {
	defer close(q.done)
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		for q.pending.Len() == 0 {
			if q.closed {
				return
			}
			q.more.Wait()
		}
		text := bytes.Clone(q.pending.Bytes())
		q.pending.Reset()
		q.mu.Unlock()
		_, err := q.w.Write(text)
		q.mu.Lock()
		if err != nil {
			q.err = err
			if q.broken != nil {
				go q.broken(err)
			}
			return
		}
	}
}

// Close returns when everything is written, or cannot be.
func (q *queue) Close() error {
	q.mu.Lock()
	q.closed = true
	q.more.Signal()
	q.mu.Unlock()
	<-q.done
	return q.err
}

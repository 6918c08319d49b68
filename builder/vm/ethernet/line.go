// SPDX-License-Identifier: Apache-2.0

package ethernet

import (
	"math/rand/v2"
	"sync"
	"time"
)

// queueFrames is how many frames wait in one direction of a link. More are dropped, as the
// buffers of a switch overflow; whoever reads too slowly delays nobody else.
const queueFrames = 1024

// queued is a frame on its way.
type queued struct {
	due   time.Time
	frame Frame
}

// line is one direction of a link.
type line struct {
	deliver func(Frame)
	queue   chan queued
	done    chan struct{}

	mu      sync.Mutex
	random  *rand.Rand
	cut     bool
	delay   time.Duration
	loss    float64
	passed  uint64
	dropped uint64
}

func newLine(seed, stream uint64, done chan struct{}, deliver func(Frame)) *line {
	return &line{deliver: deliver, queue: make(chan queued, queueFrames), done: done, random: rand.New(rand.NewPCG(seed, stream))}
}

// put takes a frame without ever waiting.
func (l *line) put(f Frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut || l.loss > 0 && l.random.Float64() < l.loss {
		l.dropped++
		return
	}
	item := queued{frame: f}
	if l.delay > 0 {
		item.due = time.Now().Add(l.delay)
	}
	select {
	case l.queue <- item:
	default:
		l.dropped++
	}
}

// run delivers frames in the order in which they were put until done is closed.
func (l *line) run() {
	for {
		select {
		case <-l.done:
			return
		case item := <-l.queue:
			if !l.wait(item.due) {
				return
			}
			if l.arrives() {
				l.deliver(item.frame)
			}
		}
	}
}

// wait returns at the time due, or false when the line ends first.
func (l *line) wait(due time.Time) bool {
	if due.IsZero() {
		return true
	}
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.done:
		return false
	}
}

// arrives counts a frame; one that was under way when the line was cut is lost.
func (l *line) arrives() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		l.dropped++
		return false
	}
	l.passed++
	return true
}

func (l *line) set(change func(*line)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
}

func (l *line) counts() (passed, dropped uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.passed, l.dropped
}

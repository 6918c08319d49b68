// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/imgbuild/imgbuild/builder/timeline"
)

// Recorder makes a time line of console lines and events. It is safe for concurrent use.
type Recorder struct {
	Title, Machine string

	mu     sync.Mutex
	events []Event
	// kernel is when the kernel started, by the host's clock: the least difference seen
	// between a line's arrival and the uptime it carries. Lines are late, never early.
	kernel time.Duration
	known  bool
}

// Line notes a console line; it returns the event it is, if any.
func (r *Recorder) Line(l Line) (Event, bool) {
	if up, ok := kernelTime(l.Text); ok {
		r.mu.Lock()
		r.kernelAt(l.At - up)
		r.mu.Unlock()
	}
	e, ok := ParseLine(l)
	if ok {
		r.Event(e)
	}
	return e, ok
}

// Event notes an event.
func (r *Recorder) Event(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.guestClock() {
		r.kernelAt(e.At - e.Uptime)
	}
	r.events = append(r.events, e)
}

func (r *Recorder) kernelAt(at time.Duration) {
	if at = max(at, 0); !r.known || at < r.kernel {
		r.kernel, r.known = at, true
	}
}

// Standing says what was heard last.
func (r *Recorder) Standing() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range slices.Backward(r.events) {
		if e.Text != "" && e.Kind != Noted {
			return fmt.Sprintf("%s (after %.0f s)", strings.TrimPrefix(e.Text, "imgbuild: "), e.At.Seconds())
		}
	}
	return "its console has said nothing that is known"
}

// Reset forgets everything, for the next boot of the same machine.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events, r.kernel, r.known = nil, 0, false
}

// Marks that bound boot stages or are Ignition's. Firstboot and the initrd print them in the
// form of any mark.
const (
	markInit     = "initrd"
	markSwitched = "switch-root"
	markIgnition = "ignition-"
	// markIgnitionDone ends the last stage of Ignition.
	markIgnitionDone = "ignition-done"
)

// Timeline returns what is known so far.
func (r *Recorder) Timeline() *timeline.Timeline {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := &timeline.Timeline{Title: r.Title, Machine: r.Machine}
	stages := []stage{{"firmware", 0, true}, {"boot loader", 0, false}, {"kernel", r.kernel, r.known},
		{"initrd", 0, false}, {"system", 0, false}, {"first boot", 0, false}}
	reach := func(i int, at time.Duration) {
		if !stages[i].known {
			stages[i].at, stages[i].known = at, true
		}
	}
	var ignition string
	var ignitionAt, end time.Duration
	for _, e := range r.events {
		at := r.at(e)
		switch {
		case e.Kind == LoaderStarted:
			reach(1, e.At)
		case e.Kind == InitStarted, e.Kind == Mark && e.Name == markInit:
			reach(3, at)
		case e.Kind == RootSwitched, e.Kind == Mark && e.Name == markSwitched:
			reach(4, at)
		case e.Kind == FirstbootStarted:
			reach(5, at)
		case e.Kind == Mark && strings.HasPrefix(e.Name, markIgnition):
			if ignition != "" {
				t.Spans = append(t.Spans, timeline.Span{Group: timeline.Ignition, Name: ignition, Start: timeline.Seconds(ignitionAt), End: timeline.Seconds(at)})
			}
			if ignition, ignitionAt = strings.TrimPrefix(e.Name, markIgnition), at; e.Name == markIgnitionDone {
				ignition = ""
			}
		case e.Kind == Mark:
			t.Moments = append(t.Moments, timeline.Moment{Name: e.Name, At: timeline.Seconds(at)})
		case e.Kind == PhaseEnded && e.State != "retrying":
			note := e.State
			if note == "ok" {
				note = ""
			}
			t.Spans = append(t.Spans, timeline.Span{Group: timeline.Phase, Name: e.Name, Start: timeline.Seconds(max(at-e.Took, 0)), End: timeline.Seconds(at), Note: note})
		case e.Kind == APIAnswered:
			t.Moments = append(t.Moments, timeline.Moment{Name: "API answers the host", At: timeline.Seconds(e.At)})
		case e.Kind == ReadySeen:
			t.Ready = timeline.Seconds(e.At)
		}
		if e.Kind != Noted {
			end = max(end, at)
		}
	}
	t.Spans = append(t.Spans, bootSpans(stages, end)...)
	t.Sort()
	return t
}

// at places an event on the host's axis. The guest's clock is better than the line's arrival
// only when it is finer: kernel messages have microseconds, firstboot's lines a tenth.
func (r *Recorder) at(e Event) time.Duration {
	if e.guestClock() && r.known && (e.Kind == InitStarted || e.Kind == RootSwitched || e.Kind == KernelStarted || e.At-r.kernel-e.Uptime > 150*time.Millisecond) {
		return r.kernel + e.Uptime
	}
	return e.At
}

type stage struct {
	name  string
	at    time.Duration
	known bool
}

// bootSpans lets each known stage last until the next known one.
func bootSpans(stages []stage, end time.Duration) []timeline.Span {
	var out []timeline.Span
	for i, s := range stages {
		if !s.known || s.at > end {
			continue
		}
		until := end
		for _, next := range stages[i+1:] {
			if next.known {
				until = max(next.at, s.at)
				break
			}
		}
		out = append(out, timeline.Span{Group: timeline.Boot, Name: s.name, Start: timeline.Seconds(s.at), End: timeline.Seconds(until)})
	}
	return out
}

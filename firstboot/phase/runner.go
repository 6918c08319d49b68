// SPDX-License-Identifier: Apache-2.0

package phase

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// State is where a phase stands in a run. The zero value is invalid.
type State string

// The states an observer sees, in the order they can follow each other.
const (
	Running State = "running"
	// Retrying: an attempt failed and another follows.
	Retrying State = "retrying"
	// Done: the phase ran. Checked: its outcome was found and nothing ran.
	Done    State = "ok"
	Checked State = "checked"
	Failed  State = "failed"
	// Cancelled: another phase failed, or a signal came, while this one was at work.
	Cancelled State = "cancelled"
)

// Transition is one change of a phase's state.
type Transition struct {
	Phase   string
	State   State
	Attempt int
	// At is when it happened and Took how long the phase has been at work.
	At   time.Time
	Took time.Duration
	Err  error
}

// Observer is told about every transition. Calls are serialised and must return quickly.
type Observer interface{ Transition(Transition) }

// ErrDocumentChanged reports that phases already ran under another node document and
// cannot be redone safely.
var ErrDocumentChanged = errors.New("the node document changed after first boot began")

// Error is the failure of one phase.
type Error struct {
	Phase string
	Err   error
}

func (e *Error) Error() string { return "phase " + e.Phase + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Runner executes the phases of a graph for one role.
type Runner[S any] struct {
	Graph   *Graph[S]
	Journal *Journal
	Role    string
	// Document is the digest of the node document this run works from.
	Document string
	// Boot is the kernel's boot id, recorded in the journal.
	Boot     string
	Observer Observer // may be nil
	// Redact removes secrets from error text before it is recorded; nil leaves it as it is.
	Redact func(string) string
	// Now is the clock; nil means time.Now.
	Now func() time.Time

	mu sync.Mutex
}

// Run executes every phase that applies, each as soon as its needs are done. The first
// failure cancels the rest; the error names every phase that failed on its own account.
func (r *Runner[S]) Run(ctx context.Context, s S) error {
	phases := r.Graph.For(r.Role)
	if err := r.refuseChanged(phases); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	done := make(map[string]chan struct{}, len(phases))
	for _, p := range phases {
		done[p.Name] = make(chan struct{})
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for _, p := range phases {
		wg.Go(func() {
			for _, need := range p.Needs {
				select {
				case <-done[need]:
				case <-ctx.Done():
					return
				}
			}
			if ctx.Err() != nil {
				return
			}
			if err := r.one(ctx, p, s); err != nil {
				mu.Lock()
				if ctx.Err() == nil || len(errs) == 0 {
					errs = append(errs, &Error{Phase: p.Name, Err: err})
				}
				mu.Unlock()
				cancel()
				return
			}
			close(done[p.Name])
		})
	}
	wg.Wait()
	if len(errs) == 0 {
		return context.Cause(ctx)
	}
	return errors.Join(errs...)
}

// refuseChanged stops a run whose document differs from the one earlier phases used.
func (r *Runner[S]) refuseChanged(phases []Phase[S]) error {
	var stuck []string
	for _, p := range phases {
		rec, ok := r.Journal.Record(p.Name)
		if ok && rec.Document != r.Document && p.OnChange == Refuse {
			stuck = append(stuck, p.Name)
		}
	}
	if stuck == nil {
		return nil
	}
	return fmt.Errorf("%w: %s ran under another one; restore the document, or reset the node to begin again",
		ErrDocumentChanged, strings.Join(stuck, ", "))
}

// one brings a single phase to done.
func (r *Runner[S]) one(ctx context.Context, p Phase[S], s S) error {
	start := r.now()
	tell := func(st State, attempt int, err error) {
		if r.Observer == nil {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		at := r.now()
		r.Observer.Transition(Transition{Phase: p.Name, State: st, Attempt: attempt, At: at, Took: at.Sub(start), Err: err})
	}
	tell(Running, 1, nil)
	rec, known := r.Journal.Record(p.Name)
	if r.outcomeThere(ctx, p, s, rec, known) {
		if !rec.Done {
			if err := r.append(p, EventDone, 0, true, nil); err != nil {
				return err
			}
		}
		tell(Checked, 0, nil)
		return nil
	}
	if err := r.append(p, EventStart, 1, false, nil); err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		err := r.attempt(withReport(ctx, func(why error) { tell(Retrying, attempt, why) }), p, s)
		if err == nil {
			if err := r.append(p, EventDone, attempt, false, nil); err != nil {
				return err
			}
			tell(Done, attempt, nil)
			return nil
		}
		if ctx.Err() != nil || attempt >= p.Attempts || errors.Is(err, ErrPermanent) {
			end := Failed
			if ctx.Err() != nil {
				end = Cancelled
			}
			tell(end, attempt, err)
			return errors.Join(err, r.append(p, EventFailed, attempt, false, err))
		}
		tell(Retrying, attempt, err)
		select {
		case <-time.After(p.Pause):
		case <-ctx.Done():
		}
	}
}

// outcomeThere decides whether Run can be left out. A phase that never started is not
// checked, because Run is idempotent and the check would only cost time; under a changed
// document an outcome that is there may be the wrong one.
func (r *Runner[S]) outcomeThere(ctx context.Context, p Phase[S], s S, rec Record, known bool) bool {
	if p.Check == nil || !known || rec.Document != r.Document {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	return p.Check(ctx, s) == nil
}

func (r *Runner[S]) attempt(ctx context.Context, p Phase[S], s S) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.Timeout, fmt.Errorf("not done within %s", p.Timeout))
	defer cancel()
	err = p.Run(ctx, s)
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w (%w)", err, cause)
	}
	return err
}

func (r *Runner[S]) append(p Phase[S], event string, attempt int, checked bool, cause error) error {
	e := Entry{Time: r.now().UTC(), Boot: r.Boot, Phase: p.Name, Event: event, Document: r.Document, Attempt: attempt, Checked: checked}
	if cause != nil {
		e.Error = cause.Error()
		if r.Redact != nil {
			e.Error = r.Redact(e.Error)
		}
	}
	return r.Journal.Append(e)
}

func (r *Runner[S]) now() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}

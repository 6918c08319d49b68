// SPDX-License-Identifier: Apache-2.0

package phase

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// world is what test phases change: a set of facts that outlives runs, as a disk does.
type world struct {
	mu    sync.Mutex
	facts map[string]int
	ran   []string
}

func newWorld() *world { return &world{facts: map[string]int{}} }

func (w *world) did(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.facts[name]++
	w.ran = append(w.ran, name)
}

func (w *world) has(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.facts[name] > 0
}

// fact is a phase that makes a fact true, after checking that its needs are.
func fact(name string, needs ...string) Phase[*world] {
	p := step(name, needs...)
	p.Check = func(_ context.Context, w *world) error {
		if !w.has(name) {
			return errors.New("not there")
		}
		return nil
	}
	p.Run = func(_ context.Context, w *world) error {
		for _, n := range needs {
			if !w.has(n) {
				return Permanent(fmt.Errorf("%s ran before %s", name, n))
			}
		}
		w.did(name)
		return nil
	}
	return p
}

// diamond is a graph with parallel branches.
func diamond(t testing.TB, edit ...func([]Phase[*world])) *Graph[*world] {
	t.Helper()
	ps := []Phase[*world]{fact("a"), fact("b", "a"), fact("c", "a"), fact("d", "b", "c"), fact("e")}
	for _, e := range edit {
		e(ps)
	}
	g, err := New(ps...)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

type events struct{ list []Transition }

func (e *events) Transition(t Transition) { e.list = append(e.list, t) }

func (e *events) states(phase string) string {
	var out []string
	for _, t := range e.list {
		if t.Phase == phase {
			out = append(out, string(t.State))
		}
	}
	return strings.Join(out, " ")
}

func runWith(t testing.TB, path string, g *Graph[*world], w *world, document string) (*events, error) {
	t.Helper()
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	e := &events{}
	err = (&Runner[*world]{Graph: g, Journal: j, Document: document, Observer: e}).Run(t.Context(), w)
	return e, err
}

func TestRunOrderAndRerun(t *testing.T) {
	path, w, g := filepath.Join(t.TempDir(), "j"), newWorld(), diamond(t)
	e, err := runWith(t, path, g, w, "d1")
	if err != nil {
		t.Fatal(err)
	}
	if len(w.ran) != 5 || e.states("d") != "running ok" {
		t.Errorf("ran %v, d was %s", w.ran, e.states("d"))
	}
	e, err = runWith(t, path, g, w, "d1")
	if err != nil {
		t.Fatal(err)
	}
	if len(w.ran) != 5 || e.states("a") != "running checked" {
		t.Errorf("second run: ran %v, a was %s", w.ran, e.states("a"))
	}
	// What was lost is made again, and only that.
	delete(w.facts, "c")
	if _, err = runWith(t, path, g, w, "d1"); err != nil {
		t.Fatal(err)
	}
	if got := w.ran[5:]; !slices.Equal(got, []string{"c"}) {
		t.Errorf("after losing c: ran %v", got)
	}
}

func TestReadyPhasesRunInParallel(t *testing.T) {
	var meet sync.WaitGroup
	meet.Add(3)
	together := func(_ context.Context, w *world) error { meet.Done(); meet.Wait(); return nil }
	g := diamond(t, func(ps []Phase[*world]) {
		ps[1].Run, ps[2].Run, ps[4].Run = together, together, together // b and c after a, and e
		ps[3].Run = nothing
	})
	done := make(chan error, 1)
	go func() { _, err := runWith(t, filepath.Join(t.TempDir(), "j"), g, newWorld(), "d"); done <- err }()
	if err := <-done; err != nil { // a runner that is not parallel hangs here
		t.Fatal(err)
	}
}

func TestRetryPermanentTimeoutAndCancel(t *testing.T) {
	boom := errors.New("boom")
	count := 0
	for name, c := range map[string]struct {
		run      func(context.Context, *world) error
		attempts int
		timeout  time.Duration
		states   string
		calls    int
		is       error
	}{
		"succeeds third": {func(context.Context, *world) error {
			if count < 3 {
				return boom
			}
			return nil
		}, 5, time.Minute, "running retrying retrying ok", 3, nil},
		"gives up":  {func(context.Context, *world) error { return boom }, 2, time.Minute, "running retrying failed", 2, boom},
		"once":      {func(context.Context, *world) error { return boom }, 0, time.Minute, "running failed", 1, boom},
		"permanent": {func(context.Context, *world) error { return fmt.Errorf("x: %w", Permanent(boom)) }, 9, time.Minute, "running failed", 1, ErrPermanent},
		"timeout":   {func(ctx context.Context, _ *world) error { <-ctx.Done(); return ctx.Err() }, 2, time.Millisecond, "running retrying failed", 2, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			count = 0
			p := step("p")
			p.Attempts, p.Timeout = c.attempts, c.timeout
			p.Run = func(ctx context.Context, w *world) error { count++; return c.run(ctx, w) }
			after := fact("after")
			after.Needs = []string{"p"}
			g, err := New(p, after)
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld()
			e, err := runWith(t, filepath.Join(t.TempDir(), "j"), g, w, "d")
			if (err == nil) != (c.is == nil) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("error is %v, want %v", err, c.is)
			}
			if e.states("p") != c.states || count != c.calls {
				t.Errorf("states %q, %d calls; want %q, %d", e.states("p"), count, c.states, c.calls)
			}
			if w.has("after") != (c.is == nil) {
				t.Errorf("the dependent phase ran: %v", w.has("after"))
			}
		})
	}
}

func TestFailureCancelsTheOthersAndNamesThePhase(t *testing.T) {
	started := make(chan struct{})
	slow, bad := step("slow"), step("bad")
	slow.Run = func(ctx context.Context, _ *world) error { close(started); <-ctx.Done(); return ctx.Err() }
	bad.Run = func(context.Context, *world) error { <-started; return errors.New("boom") }
	g, err := New(slow, bad)
	if err != nil {
		t.Fatal(err)
	}
	e, err := runWith(t, filepath.Join(t.TempDir(), "j"), g, newWorld(), "d")
	var pe *Error
	if !errors.As(err, &pe) || pe.Phase != "bad" || strings.Contains(err.Error(), "slow") {
		t.Errorf("got %v", err)
	}
	if e.states("slow") != "running cancelled" {
		t.Errorf("slow was %s", e.states("slow"))
	}
}

func TestChangedDocument(t *testing.T) {
	path, w := filepath.Join(t.TempDir(), "j"), newWorld()
	refuse := diamond(t, func(ps []Phase[*world]) { ps[1].OnChange = Refuse })
	if _, err := runWith(t, path, refuse, w, "d1"); err != nil {
		t.Fatal(err)
	}
	e, err := runWith(t, path, refuse, w, "d2")
	if !errors.Is(err, ErrDocumentChanged) || !strings.Contains(err.Error(), ": b ran") {
		t.Errorf("got %v", err)
	}
	if len(e.list) != 0 {
		t.Errorf("a refused run did something: %v", e.list)
	}
	// With every phase safe, all of them run again though their outcome is there.
	if _, err := runWith(t, path, diamond(t), w, "d2"); err != nil {
		t.Fatal(err)
	}
	if len(w.ran) != 10 {
		t.Errorf("ran %v", w.ran)
	}
	// And the new document is the journal's from now on.
	if _, err := runWith(t, path, refuse, w, "d2"); err != nil {
		t.Error(err)
	}
}

func TestErrorsAreRedactedInTheJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	p := step("p")
	p.Run = func(context.Context, *world) error { return errors.New("token hush is wrong") }
	g, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	r := &Runner[*world]{Graph: g, Journal: j, Redact: func(s string) string { return strings.ReplaceAll(s, "hush", "***") }}
	if err := r.Run(t.Context(), newWorld()); err == nil {
		t.Fatal("no error")
	}
	if text := read(t, path); strings.Contains(text, "hush") || !strings.Contains(text, "token *** is wrong") {
		t.Error(text)
	}
}

// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// WaitReady returns when every machine that is switched on is Ready in its current boot and the
// administrator has his kubeconfig, or at the first machine that failed or ended.
func (f *Fleet) WaitReady(ctx context.Context) error {
	limit := time.NewTimer(f.opts.Timeout)
	defer limit.Stop()
	for {
		news := f.listen() // before looking
		waiting, err := f.standing()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		case len(waiting) == 0 && f.opts.Fetch != nil && !f.opts.Fetch.done:
			// A machine that restarts meanwhile is waited for again.
			if err := f.fetch(ctx); err != nil {
				return err
			}
			continue
		case len(waiting) == 0:
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
		case <-f.ctx.Done():
			return f.ctx.Err()
		case <-limit.C:
			return f.late(waiting)
		}
	}
}

// listen returns what is closed when an outcome changes, and tell closes it.
func (f *Fleet) listen() <-chan struct{} {
	f.newsMu.Lock()
	defer f.newsMu.Unlock()
	return f.news
}

func (f *Fleet) tell() {
	f.newsMu.Lock()
	defer f.newsMu.Unlock()
	close(f.news)
	f.news = make(chan struct{})
}

// standing returns the machines whose current boot is undecided, and the first failure.
func (f *Fleet) standing() (waiting []*Member, err error) {
	for _, m := range f.Members {
		m.mu.Lock()
		o := m.outcome
		switch {
		case o == nil: // switched off
		case !o.settled:
			waiting = append(waiting, m)
		case o.err != nil && err == nil:
			err = hostError(m, o.err)
		}
		m.mu.Unlock()
	}
	return waiting, err
}

// late is the error of a fleet whose time is over. It says of every host that is not Ready what
// it was last heard of; one alone is quoted.
func (f *Fleet) late(waiting []*Member) error {
	if len(waiting) == 1 {
		m := waiting[0]
		return hostError(m, m.machineFailure(fmt.Errorf("the node was not Ready after %s; last: %s", f.opts.Timeout, m.recorder.Standing())))
	}
	var b strings.Builder
	for _, m := range waiting {
		fmt.Fprintf(&b, "\n  %s: %s", m.Host.Name, m.recorder.Standing())
	}
	return fault.New(fault.Machine, "the whole consoles are in "+filepath.Join(f.opts.Dir, "HOST", ConsoleFile)+"; --timeout gives slow machines more time",
		"%d of %d hosts were not Ready after %s:%s", len(waiting), len(f.Members), f.opts.Timeout, b.String())
}

// WaitEnd returns when ctx ends, which is how a run is meant to end, or when every machine has
// ended by itself. The error tells of machines that did not end because their guests wanted to.
func (f *Fleet) WaitEnd(ctx context.Context) error {
	for {
		news := f.listen()
		running, errs := 0, []error(nil)
		for _, m := range f.Members {
			m.mu.Lock()
			if m.machine != nil && !m.ended {
				running++
			}
			if m.endErr != nil {
				errs = append(errs, hostError(m, m.endErr))
			}
			m.mu.Unlock()
		}
		if running == 0 || ctx.Err() != nil {
			return errors.Join(errs...)
		}
		select {
		case <-news:
		case <-ctx.Done():
		}
	}
}

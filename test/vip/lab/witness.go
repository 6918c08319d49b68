// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"sync"
	"time"
)

// Witness looks all the time who has the address.
type Witness struct {
	lab  *Lab
	stop chan struct{}
	done sync.WaitGroup

	mu    sync.Mutex
	both  []string
	looks int
	err   error
}

// Witness begins to look.
func (l *Lab) Witness() *Witness {
	w := &Witness{lab: l, stop: make(chan struct{})}
	machines := append([]*Machine(nil), l.Machines...)
	w.done.Go(func() { w.look(machines) })
	return w
}

// look reads all machines twice. Two that have the address both times had it at the same
// moment: after the first was read for the first time and before it was read again.
func (w *Witness) look(machines []*Machine) {
	has := make([]bool, len(machines))
	for {
		select {
		case <-w.stop:
			return
		case <-time.After(time.Millisecond):
		}
		var names string
		count := 0
		for pass := range 2 {
			names, count = "", 0
			for i, m := range machines {
				owns, err := m.owns()
				if err != nil {
					w.note(func() { w.err = err })
					return
				}
				if has[i] = owns && (pass == 0 || has[i]); has[i] {
					names += " " + m.Name
					count++
				}
			}
			if count < 2 {
				break
			}
		}
		w.note(func() {
			w.looks++
			if count > 1 {
				w.both = append(w.both, names)
			}
		})
	}
}

func (w *Witness) note(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// Seen says how often somebody looked, and who had the address when two or more had it.
func (w *Witness) Seen() (looks int, both []string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.looks, append([]string(nil), w.both...), w.err
}

// End ends it.
func (w *Witness) End() {
	close(w.stop)
	w.done.Wait()
}

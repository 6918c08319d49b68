// SPDX-License-Identifier: Apache-2.0

package ethernet

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Port is one port of a switch and the link on it.
type Port struct {
	// Name is the port's in taps and errors.
	Name string

	sw      *Switch
	in, out *line // from the station, to the station
	done    chan struct{}
	once    sync.Once
	running sync.WaitGroup
	// closing ends what the port reads from or listens on; nil for a port in this process.
	closing func()

	vlan atomic.Uint32 // a VLAN, or 0

	mu   sync.Mutex
	taps []*tap
}

// Direction says which way a frame crossed a link. The zero value is invalid.
type Direction string

// The directions.
const (
	FromStation Direction = "from"
	ToStation   Direction = "to"
)

// Seen is a frame that crossed a link.
type Seen struct {
	At        time.Time
	Port      *Port
	Direction Direction
	Frame     Frame
}

type tap struct{ see func(Seen) }

// Tap calls see for every frame that crosses the port's link, in order in each direction; the
// two directions call at the same time. It must return soon and must not change the frame.
// What a cut or lossy link swallowed is not seen, and of a trunk frames are seen without their
// tag. The result ends the watch.
func (p *Port) Tap(see func(Seen)) (remove func()) {
	t := &tap{see}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taps = append(slices.Clone(p.taps), t)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.taps = slices.DeleteFunc(slices.Clone(p.taps), func(have *tap) bool { return have == t })
	}
}

func (p *Port) show(d Direction, f Frame) {
	p.mu.Lock()
	taps := p.taps
	p.mu.Unlock()
	if len(taps) == 0 {
		return
	}
	seen := Seen{At: time.Now(), Port: p, Direction: d, Frame: f}
	for _, t := range taps {
		t.see(seen)
	}
}

// Send gives the switch a frame that the station on this port sends. It never waits, keeps f,
// and drops it when the link's queue is full.
func (p *Port) Send(f Frame) { p.in.put(f) }

// Trunk makes the port carry the segment as the VLAN id, 1 to 4094: its station sends and
// receives tagged frames, and what it sends otherwise is lost. 0 ends that.
func (p *Port) Trunk(id VLAN) { p.vlan.Store(uint32(id)) }

// Cut loses every frame in both directions from now on, those under way included. Neither
// side notices: a link through a broken switch stays up.
func (p *Port) Cut() { p.both(func(l *line) { l.cut = true }) }

// Restore ends Cut.
func (p *Port) Restore() { p.both(func(l *line) { l.cut = false }) }

// SetDelay lets frames take d longer, in each direction.
func (p *Port) SetDelay(d time.Duration) { p.both(func(l *line) { l.delay = d }) }

// SetLoss drops frames with a probability from 0 to 1, in each direction.
func (p *Port) SetLoss(probability float64) { p.both(func(l *line) { l.loss = probability }) }

func (p *Port) both(change func(*line)) {
	p.in.set(change)
	p.out.set(change)
}

// Counts are a link's frames, from and to the station.
type Counts struct {
	In, Out, InDropped, OutDropped uint64
}

// Counts returns what has crossed the link so far.
func (p *Port) Counts() (c Counts) {
	c.In, c.InDropped = p.in.counts()
	c.Out, c.OutDropped = p.out.counts()
	return c
}

// Close takes the port off the switch and returns when nothing of it runs any more. It must
// not be called from a tap or from the port's own deliver function.
func (p *Port) Close() {
	p.sw.remove(p)
	p.once.Do(func() {
		close(p.done)
		if p.closing != nil {
			p.closing()
		}
	})
	p.running.Wait()
}

// SPDX-License-Identifier: Apache-2.0

package ethernet

import (
	"errors"
	"sync"
	"time"
)

// Options adjust a switch. The zero value is what a real one does.
type Options struct {
	// Age is how long a station's place is remembered after its last frame; default 5 minutes
	// (IEEE 802.1Q, 8.8.3).
	Age time.Duration
	// Stations is how many places are remembered; default 4096. Frames to others are flooded.
	Stations int
	// Seed decides which frames lossy links drop.
	Seed uint64
	// Now is the clock of ageing; default time.Now.
	Now func() time.Time
}

// Switch is a transparent bridge: it learns where stations are from the frames they send,
// forwards to known stations and floods everything else. VLAN tags pass as they are, except on
// ports that carry the segment tagged (Port.Trunk).
type Switch struct {
	opts Options

	mu      sync.Mutex
	closed  bool
	ports   []*Port
	made    uint64
	station map[MAC]place
}

// place is where a station was last heard.
type place struct {
	port *Port
	at   time.Time
}

// New returns a switch without ports.
func New(o Options) *Switch {
	if o.Age == 0 {
		o.Age = 5 * time.Minute
	}
	if o.Stations == 0 {
		o.Stations = 4096
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Switch{opts: o, station: map[MAC]place{}}
}

// ErrClosed reports a switch that was closed.
var ErrClosed = errors.New("the switch is closed")

// Attach adds a port for a station in this process. deliver is called for each frame the
// station receives, one at a time; while it runs, further frames queue up and then are lost.
func (s *Switch) Attach(name string, deliver func(Frame)) (*Port, error) {
	return s.attach(name, deliver, func(*Port) {})
}

// attach adds a port; prepare completes it before a frame can reach it.
func (s *Switch) attach(name string, deliver func(Frame), prepare func(*Port)) (*Port, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	p := &Port{Name: name, sw: s, done: make(chan struct{})}
	p.in = newLine(s.opts.Seed, s.made, p.done, func(f Frame) {
		if id := VLAN(p.vlan.Load()); id != 0 {
			inner, ok := f.untag()
			if !ok || inner.id != id {
				return
			}
			f = inner.frame
		}
		p.show(FromStation, f)
		s.forward(p, f)
	})
	p.out = newLine(s.opts.Seed, s.made+1, p.done, func(f Frame) {
		p.show(ToStation, f)
		if id := VLAN(p.vlan.Load()); id != 0 {
			f = f.tag(id)
		}
		deliver(f)
	})
	s.made += 2
	prepare(p)
	s.ports = append(s.ports, p)
	p.running.Go(p.in.run)
	p.running.Go(p.out.run)
	return p, nil
}

// forward sends a frame where it belongs.
func (s *Switch) forward(from *Port, f Frame) {
	if !f.valid() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.learn(f.Src(), from)
	dst := f.Dst()
	if dst.linkLocal() {
		return
	}
	if to := s.find(dst); to != nil {
		if to != from {
			to.out.put(f)
		}
		return
	}
	for _, p := range s.ports {
		if p != from {
			p.out.put(f)
		}
	}
}

// learn remembers where a station is.
func (s *Switch) learn(m MAC, at *Port) {
	if m.Group() {
		return // nobody sends from such an address
	}
	now := s.opts.Now()
	if _, known := s.station[m]; !known && len(s.station) >= s.opts.Stations {
		for old, where := range s.station {
			if now.Sub(where.at) > s.opts.Age {
				delete(s.station, old)
			}
		}
		if len(s.station) >= s.opts.Stations {
			return
		}
	}
	s.station[m] = place{at, now}
}

// find returns the port behind which a station was heard lately, or nil.
func (s *Switch) find(m MAC) *Port {
	where, known := s.station[m]
	if !known {
		return nil
	}
	if s.opts.Now().Sub(where.at) > s.opts.Age {
		delete(s.station, m)
		return nil
	}
	return where.port
}

// Where returns the port behind which a station was heard last, or nil.
func (s *Switch) Where(m MAC) *Port {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(m)
}

// forget drops what was learned from a port, as a switch does when a link goes down.
func (s *Switch) forget(p *Port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetLocked(p)
}

func (s *Switch) forgetLocked(p *Port) {
	for m, where := range s.station {
		if where.port == p {
			delete(s.station, m)
		}
	}
}

func (s *Switch) remove(p *Port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetLocked(p)
	for i, have := range s.ports {
		if have == p {
			s.ports = append(s.ports[:i:i], s.ports[i+1:]...)
			return
		}
	}
}

// Close closes every port.
func (s *Switch) Close() {
	s.mu.Lock()
	s.closed = true
	ports := s.ports
	s.mu.Unlock()
	for _, p := range ports {
		p.Close()
	}
}

// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/imgbuild/imgbuild/builder/timeline"
	"github.com/imgbuild/imgbuild/builder/vm/ethernet"
)

// linkSocket is where a machine's interface meets the switch, in the machine's directory.
const linkSocket = "net0.sock"

// Member is one machine of a fleet. It can be switched off and on.
type Member struct {
	Host FleetHost
	// Dir holds its disk, console and sockets.
	Dir string
	// Port is its link to the segment, which stays when the machine goes.
	Port *ethernet.Port

	fleet    *Fleet
	recorder *Recorder

	mu       sync.Mutex
	machine  *Machine
	outcome  *outcome // of the current boot; nil when switched off
	failures Failures
}

// outcome is how a boot went.
type outcome struct {
	settled chan struct{}
	// failed ends when the boot settles with an error.
	failed context.Context
	fail   context.CancelFunc
	once   sync.Once
	err    error
	since  time.Time
}

func newOutcome() *outcome {
	o := &outcome{settled: make(chan struct{}), since: time.Now()}
	o.failed, o.fail = context.WithCancel(context.Background())
	return o
}

// settle decides once; it says whether it did.
func (o *outcome) settle(err error) (first bool) {
	o.once.Do(func() {
		first, o.err = true, err
		close(o.settled)
		if err != nil {
			o.fail()
		}
	})
	return first
}

func (m *Member) current() *outcome {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.outcome
}

// Machine is the running machine, or nil.
func (m *Member) Machine() *Machine {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.machine
}

// Start switches the machine on, with the disk it has.
func (m *Member) Start() error {
	if m.Machine() != nil {
		return hostError(m, errors.New("it is switched on already"))
	}
	s := m.fleet.opts.Machine
	s.Name, s.Dir, s.Ignition = m.Host.Name, m.Dir, m.Host.Ignition
	s.UUID, s.Serial = m.Host.UUID, m.Host.Serial
	if m.Host.Image != "" {
		s.Image = m.Host.Image
	}
	// The name is relative to the directory, where QEMU is started.
	s.NICs = []NIC{{MAC: m.Host.MAC.String(), Stream: linkSocket}}
	s.KernelArguments = append(slices.Clone(s.KernelArguments), "systemd.show_status=1", "rd.systemd.show_status=1")
	o := newOutcome()
	m.mu.Lock()
	m.outcome, m.failures = o, Failures{}
	m.mu.Unlock()
	m.recorder.Reset()
	machine, err := bootWith(m.fleet.ctx, m.fleet.tools, s, hooks{line: func(l Line) { m.line(o, l) },
		note: func(text string) { m.note(0, text) }, reset: func() { m.rebooted(o) }})
	if err != nil {
		return hostError(m, err)
	}
	m.mu.Lock()
	m.machine = machine
	m.mu.Unlock()
	m.recorder.mu.Lock()
	m.recorder.Machine = fmt.Sprintf("QEMU %s, %d CPUs, %d MiB, UEFI", machine.Spec.Accel, machine.Spec.CPUs, machine.Spec.MemoryMiB)
	m.recorder.mu.Unlock()
	go func() {
		<-machine.Exited()
		err := machine.Err()
		if err == nil {
			err = errors.New("the machine was switched off")
		}
		o.settle(err)
	}()
	return nil
}

// rebooted begins another boot of the same machine.
func (m *Member) rebooted(o *outcome) {
	m.recorder.Reset()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failures.Rebooted()
	o.since = time.Now()
}

// bootedAt is when the current boot began.
func (m *Member) bootedAt() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.outcome == nil {
		return time.Time{}
	}
	return m.outcome.since
}

// line handles one console line of the boot o.
func (m *Member) line(o *outcome, l Line) {
	name, f := m.Host.Name, m.fleet
	if f.opts.Lines != nil {
		f.emitMu.Lock()
		f.opts.Lines(name, l)
		f.emitMu.Unlock()
	}
	e, ok := m.recorder.Line(l)
	if !ok {
		return
	}
	f.emit(name, e)
	if e.Kind == NodeReady && f.api == nil {
		m.ready(o, e.At)
	}
	switch m.judge(e) {
	case Restarts:
		m.note(e.At, restartsBecause)
	case Ended:
		// A moment later, so that the lines that explain it are in the error.
		time.AfterFunc(2*time.Second, func() { o.settle(m.machineFailure(notStarted(e))) })
	}
}

func (m *Member) judge(e Event) Verdict {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.machine == nil { // not yet, or switched off
		return m.failures.Judge(e, Auto)
	}
	return m.failures.Judge(e, m.machine.Spec.Accel)
}

// note remarks something to the user.
func (m *Member) note(at time.Duration, text string) {
	m.fleet.emit(m.Host.Name, Event{At: at, Kind: Noted, Text: text, Uptime: -1})
}

// ready notes that the boot o succeeded, at a time since it began.
func (m *Member) ready(o *outcome, at time.Duration) {
	if o.settle(nil) {
		e := Event{At: at, Kind: ReadySeen, Name: m.Host.Name, Uptime: -1}
		m.recorder.Event(e)
		m.fleet.emit(m.Host.Name, e)
	}
}

// machineFailure adds what the machine said last.
func (m *Member) machineFailure(err error) error {
	if machine := m.Machine(); machine != nil {
		return machine.Failure(err)
	}
	return err
}

// Ready is how long the current boot took to a Ready node; 0 if it is not.
func (m *Member) Ready() time.Duration { return m.recorder.Timeline().Ready.D() }

// Timeline is what is known of the current boot.
func (m *Member) Timeline() *timeline.Timeline { return m.recorder.Timeline() }

// Console is the file with everything the machine said.
func (m *Member) Console() string { return filepath.Join(m.Dir, ConsoleFile) }

// Kill ends the machine at once, as a power cut does.
func (m *Member) Kill() { m.off((*Machine).Kill) }

// Stop ends the machine with its disk's cache written.
func (m *Member) Stop() { m.off((*Machine).Stop) }

func (m *Member) off(end func(*Machine)) {
	m.mu.Lock()
	machine := m.machine
	m.machine, m.outcome = nil, nil
	m.mu.Unlock()
	if machine != nil {
		end(machine)
	}
}

// Wipe gives a machine that is switched off an empty disk and firmware that remembers nothing.
func (m *Member) Wipe() error {
	if m.Machine() != nil {
		return hostError(m, errors.New("the disk of a running machine cannot be replaced"))
	}
	for _, name := range []string{overlayFile, varsFile} {
		if err := os.Remove(filepath.Join(m.Dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

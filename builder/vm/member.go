// SPDX-License-Identifier: Apache-2.0

package vm

import (
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
	ended    bool // by itself, since it was switched on
	endErr   error
}

// outcome is how a boot went. The member's lock guards it.
type outcome struct {
	settled bool
	err     error
	since   time.Time
}

// settle decides once how a boot went; it says whether it did. Nil is no boot.
func (m *Member) settle(o *outcome, err error) (first bool) {
	m.mu.Lock()
	if first = o != nil && !o.settled; first {
		o.settled, o.err = true, err
	}
	m.mu.Unlock()
	if first {
		m.fleet.tell()
	}
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
	m.mu.Lock()
	m.outcome, m.failures, m.ended, m.endErr = &outcome{since: time.Now()}, Failures{}, false, nil
	m.mu.Unlock()
	m.recorder.Reset()
	machine, err := bootWith(m.fleet.ctx, m.fleet.tools, s, hooks{line: m.line, note: func(text string) { m.note(0, text) },
		reset: m.rebooted, disk: m.diskFailed})
	m.mu.Lock()
	m.machine = machine
	if err != nil {
		m.outcome = nil
	}
	m.mu.Unlock()
	if err != nil {
		return hostError(m, err)
	}
	m.recorder.mu.Lock()
	m.recorder.Machine = fmt.Sprintf("QEMU %s, %d CPUs, %d MiB, UEFI", machine.Spec.Accel, machine.Spec.CPUs, machine.Spec.MemoryMiB)
	m.recorder.mu.Unlock()
	go func() {
		<-machine.Exited()
		if m.fleet.ctx.Err() == nil {
			m.gone(machine, machine.since(), machine.Err(), machine.Failure)
		}
	}()
	return nil
}

// gone notes that a machine has ended by itself: with an error, or because the guest switched
// it off. Explained adds what it said last, which takes a while: another boot may have begun by
// then, which is not the one that is over.
func (m *Member) gone(machine *Machine, at time.Duration, err error, explained func(error) error) {
	m.mu.Lock()
	if m.machine != machine { // it was switched off
		m.mu.Unlock()
		return
	}
	o := m.outcome
	m.ended, m.endErr = true, err
	m.mu.Unlock()
	why := err
	if why == nil {
		why = explained(errors.New("the machine was switched off"))
	}
	if !m.settle(o, why) {
		m.note(at, "this machine runs no more: "+brief(why))
		m.fleet.tell()
	}
}

// diskFailed ends the boot of a machine that can go no further, or says what it has met.
func (m *Member) diskFailed(paused bool, err error) {
	at := time.Duration(0)
	if machine := m.Machine(); machine != nil {
		at = machine.since()
	}
	m.note(at, brief(err))
	if paused {
		m.settle(m.current(), err)
	}
}

// rebooted begins another boot of the same machine. Who waits for a boot that came to nothing
// waits for this one, and one that was over is not taken for it.
func (m *Member) rebooted() {
	m.recorder.Reset()
	m.mu.Lock()
	m.failures.Rebooted()
	if m.outcome != nil {
		if m.outcome.settled {
			m.outcome = &outcome{}
		}
		m.outcome.since = time.Now()
	}
	m.mu.Unlock()
	m.fleet.tell()
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

// line handles one console line.
func (m *Member) line(l Line) {
	name, f, o := m.Host.Name, m.fleet, m.current()
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
	if e.Kind == NodeReady && f.consolesTell() {
		m.ready(o, e.At)
	}
	switch m.judge(e) {
	case Restarts:
		m.note(e.At, restartsBecause)
	case Ended:
		time.AfterFunc(lastWords(e), func() { m.settle(o, m.machineFailure(notStarted(e))) })
	case GoesOn:
		if e.Kind == NodeFailed {
			m.expectBegin(o, e)
		}
	}
}

// expectBegin ends the boot o if no attempt of first boot follows the one whose end e tells.
func (m *Member) expectBegin(o *outcome, e Event) {
	m.mu.Lock()
	attempt := m.failures.Attempts()
	m.mu.Unlock()
	time.AfterFunc(beginLimit, func() {
		m.mu.Lock()
		over := m.failures.GivenUp(attempt) && m.outcome == o
		m.mu.Unlock()
		if over {
			m.settle(o, m.machineFailure(noFurther(e)))
		}
	})
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
	if m.settle(o, nil) {
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
	m.fleet.tell()
	if machine != nil {
		end(machine)
	}
}

// Wipe gives a machine that is switched off an empty disk and firmware that remembers nothing.
func (m *Member) Wipe() error {
	if m.Machine() != nil {
		return hostError(m, errors.New("the disk of a running machine cannot be replaced"))
	}
	for _, name := range []string{overlayFile, baseFile, varsFile} {
		if err := os.Remove(filepath.Join(m.Dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

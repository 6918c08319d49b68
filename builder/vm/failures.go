// SPDX-License-Identifier: Apache-2.0

package vm

import "fmt"

// failureLimit is how often first boot may fail in one boot before the run gives up.
const failureLimit = 3

// trapBreakpoint is the kernel's name for an int3 that nobody expects.
const trapBreakpoint = "int3"

// Failures judges what the console tells of a machine that goes wrong. The zero value is one
// that was just switched on. It is not safe for concurrent use.
type Failures struct {
	failed    int  // attempts of first boot, in this boot
	stale     bool // an int3 was met in this boot
	restarted bool // because of one
}

// Verdict is what follows from an event.
type Verdict int

// The verdicts.
const (
	// GoesOn: nothing is wrong, or the machine tries again by itself.
	GoesOn Verdict = iota
	// Restarts: the kernel has panicked through a fault of the emulation, and the machine
	// restarts by itself as it does after every panic.
	Restarts
	// Ended: this boot comes to nothing.
	Ended
)

// restartsBecause is what a user is told of Restarts.
const restartsBecause = "the kernel met a breakpoint that was no longer there (int3): several processors emulated at once can do that to code that is being replaced; the machine restarts by itself"

// Judge says what follows from an event of a machine under an accelerator.
//
// Linux changes its own code while it runs: it writes a breakpoint (int3) over an instruction
// and then the new instruction over that. QEMU's TCG drops its translation of the old code
// before the new code is in memory, and another processor's thread that translates in between
// keeps the breakpoint. The kernel that meets it knows no reason for it and panics, about once
// in a hundred boots. Hardware does not do that, nor does KVM, so it is excused under TCG
// alone, and once.
func (f *Failures) Judge(e Event, a Accel) Verdict {
	switch e.Kind {
	case Oopsed:
		f.stale = f.stale || e.Name == trapBreakpoint
	case NodeFailed:
		// What failed once may have been too early.
		if f.failed++; f.failed >= failureLimit {
			return Ended
		}
	case Panicked:
		if f.stale && a == TCG && !f.restarted {
			f.restarted = true
			return Restarts
		}
		return Ended
	case CannotStart:
		return Ended
	}
	return GoesOn
}

// Rebooted begins the machine's next boot.
func (f *Failures) Rebooted() { f.failed, f.stale = 0, false }

// notStarted is the error of a boot that an event has ended.
func notStarted(e Event) error {
	if e.Reason != "" {
		return fmt.Errorf("the node did not start: %s", e.Reason)
	}
	return fmt.Errorf("the node did not start: %s", e.Text)
}

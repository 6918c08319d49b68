// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"time"
)

// failureLimit is how often first boot may fail in one boot before the run gives up.
const failureLimit = 3

// beginLimit is how long first boot may take to begin again after it failed. What will not get
// better by itself is not started again; what may is, after five seconds and however long an
// emulated machine on a busy host takes to start a program.
const beginLimit = 2 * time.Minute

// trapBreakpoint is the kernel's name for an int3 that nobody expects.
const trapBreakpoint = "int3"

// Failures judges what the console tells of a machine that goes wrong. The zero value is one
// that was just switched on. It is not safe for concurrent use.
type Failures struct {
	failed    int  // attempts of first boot, in this boot
	began     bool // an attempt after the last that failed
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
	case FirstbootStarted:
		f.began = true
	case NodeFailed:
		// What failed once may have been too early.
		f.began = false
		if f.failed++; f.failed >= failureLimit {
			return Ended
		}
	case Panicked:
		if f.stale && a == TCG && !f.restarted {
			f.restarted = true
			return Restarts
		}
		return Ended
	case CannotStart, Explained:
		return Ended
	}
	return GoesOn
}

// Attempts is how many attempts of first boot have failed in this boot.
func (f *Failures) Attempts() int { return f.failed }

// GivenUp says whether the boot stands where the given attempt failed, which is the end of it
// when beginLimit has passed since.
func (f *Failures) GivenUp(attempt int) bool { return f.failed == attempt && !f.began }

// Rebooted begins the machine's next boot.
func (f *Failures) Rebooted() { f.failed, f.stale = 0, false }

// noFurther is the error of a boot in which first boot does not try again after an event.
func noFurther(e Event) error {
	return fmt.Errorf("%w\n  first boot does not try again: this stays so until it is corrected", notStarted(e))
}

// lastWords is how long after an event that ends a boot the lines that explain it may take, so that
// they are in the error. The initrd says where they end.
func lastWords(e Event) time.Duration {
	switch e.Kind {
	case CannotStart:
		return time.Minute
	case Explained:
		return 0
	}
	return 2 * time.Second
}

// notStarted is the error of a boot that an event has ended.
func notStarted(e Event) error {
	if e.Reason != "" {
		return fmt.Errorf("the node did not start: %s", e.Reason)
	}
	return fmt.Errorf("the node did not start: %s", e.Text)
}

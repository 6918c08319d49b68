// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"regexp"
	"strconv"
	"time"
)

// Kind says what an event is about. The zero value is invalid.
type Kind string

// The kinds of event.
const (
	// LoaderStarted, KernelStarted and InitStarted are seen in the messages of the firmware
	// and of a kernel that is not quiet.
	LoaderStarted Kind = "loader"
	KernelStarted Kind = "kernel"
	InitStarted   Kind = "init"
	RootSwitched  Kind = "switch-root"
	// FirstbootStarted, PhaseEnded, Mark, NodeReady and NodeFailed are firstboot's lines.
	FirstbootStarted Kind = "firstboot"
	PhaseEnded       Kind = "phase"
	Mark             Kind = "mark"
	NodeReady        Kind = "ready"
	NodeFailed       Kind = "failed"
	// CannotStart is the first line of what the initrd says when it ends, Explained the last.
	CannotStart Kind = "cannot-start"
	Explained   Kind = "explained"
	// Oopsed is a fault in the kernel; Name is the trap. Some end in a panic.
	Oopsed Kind = "oops"
	// Panicked is a kernel panic.
	Panicked Kind = "panic"
	// APIAnswered and ReadySeen are observed by the host, through the API.
	APIAnswered Kind = "api"
	ReadySeen   Kind = "ready-seen"
	// Noted is a remark of the harness itself in Text.
	Noted Kind = "note"
)

// Event is something the console or the API told.
type Event struct {
	// At is the time since QEMU was started.
	At   time.Duration
	Kind Kind
	// Name is the phase, the mark, the node or the trap.
	Name string
	// State is the phase's: ok, checked, failed or retrying.
	State string
	// Took is how long the phase ran.
	Took time.Duration
	// Uptime is the guest's own clock, from kernel start; negative where the line has none.
	Uptime time.Duration
	// Reason says why a phase or node failed.
	Reason string
	// Text is the line.
	Text string
}

// guestClock says whether Uptime is a reading of the guest's clock.
func (e Event) guestClock() bool {
	switch e.Kind {
	case APIAnswered, ReadySeen, Noted:
		return false
	}
	return e.Uptime >= 0
}

// The forms of line are documented by package firstboot/status and kept stable there.
var (
	startLine = regexp.MustCompile(`^imgbuild: start (\S+) role (\S+) t=([0-9.]+)s$`)
	phaseLine = regexp.MustCompile(`^imgbuild: phase (\S+) (ok|checked|failed|retrying) ([0-9.]+)s \(t=([0-9.]+)s\)(?:: (.*))?$`)
	markLine  = regexp.MustCompile(`^imgbuild: mark (\S+) t=([0-9.]+)s$`)
	readyLine = regexp.MustCompile(`^imgbuild: node (\S+) Ready t=([0-9.]+)s$`)
	failLine  = regexp.MustCompile(`^imgbuild: node (\S+) failed t=([0-9.]+)s(?:: (.*))?$`)
	// kernelLine is printk's form with timestamps.
	kernelLine = regexp.MustCompile(`^\[ *([0-9]+\.[0-9]{6})\] (.*)$`)
	// logPrefix is what a console in front of the line may carry: the kernel's timestamp
	// or the program's name when a message goes through the log.
	logPrefix = regexp.MustCompile(`^(?:\[ *[0-9.]+\] )?(?:[A-Za-z0-9_.-]+(?:\[[0-9]+\])?: )?(imgbuild: .*)$`)
)

// milestones are recognised by what a kernel message begins with. A group is the event's name.
var milestones = []struct {
	prefix *regexp.Regexp
	kind   Kind
}{
	{regexp.MustCompile(`^Linux version `), KernelStarted},
	{regexp.MustCompile(`^Run /(?:init|sbin/init|usr/lib/systemd/systemd) as init process`), InitStarted},
	{regexp.MustCompile(`^systemd\[1\]: Switching root`), RootSwitched},
	{regexp.MustCompile(`^Oops: ([^:]+): [0-9a-f]+ \[#`), Oopsed},
	{regexp.MustCompile(`^Kernel panic - not syncing`), Panicked},
}

// What systemd shows with systemd.show_status=1. The names of units are stable, and begin
// the line after its state; descriptions may be cut.
var (
	initrdLine   = regexp.MustCompile(`^Booting initrd of `)
	welcomeLine  = regexp.MustCompile(`^Welcome to .*!$`)
	startingLine = regexp.MustCompile(`^ *Starting (ignition(?:-[a-z-]+)?)\.s`)
	finishedLine = regexp.MustCompile(`^\[ +OK +\] Finished ignition(?:-complete)?\.s`)
)

var (
	loaderLine = regexp.MustCompile(`^BdsDxe: starting Boot`)
	stopLine   = regexp.MustCompile(`^imgbuild: this machine cannot start`)
)

// explainedLine is the last line of the initrd's report.
const explainedLine = "imgbuild: stopped. Correct the cause and restart the machine."

// initrdStopped is why a machine that has such a report did not start.
const initrdStopped = "the initrd stopped; the console says why"

// ParseLine recognises the lines that say where a boot stands.
func ParseLine(l Line) (Event, bool) {
	e := Event{At: l.At, Text: l.Text, Uptime: -1}
	if m := kernelLine.FindStringSubmatch(l.Text); m != nil {
		for _, known := range milestones {
			if found := known.prefix.FindStringSubmatch(m[2]); found != nil {
				e.Kind, e.Uptime = known.kind, seconds(m[1])
				if len(found) > 1 {
					e.Name = found[1]
				}
				return e, true
			}
		}
	}
	if loaderLine.MatchString(l.Text) {
		e.Kind = LoaderStarted
		return e, true
	}
	text := l.Text
	if m := logPrefix.FindStringSubmatch(text); m != nil {
		text = m[1]
	}
	if m := startLine.FindStringSubmatch(text); m != nil {
		e.Kind, e.Name, e.Uptime = FirstbootStarted, m[1], seconds(m[3])
	} else if m := phaseLine.FindStringSubmatch(text); m != nil {
		e.Kind, e.Name, e.State, e.Took, e.Uptime, e.Reason = PhaseEnded, m[1], m[2], seconds(m[3]), seconds(m[4]), m[5]
	} else if m := markLine.FindStringSubmatch(text); m != nil {
		e.Kind, e.Name, e.Uptime = Mark, m[1], seconds(m[2])
	} else if m := readyLine.FindStringSubmatch(text); m != nil {
		e.Kind, e.Name, e.Uptime = NodeReady, m[1], seconds(m[2])
	} else if m := failLine.FindStringSubmatch(text); m != nil {
		e.Kind, e.Name, e.Uptime, e.Reason = NodeFailed, m[1], seconds(m[2]), m[3]
	} else if stopLine.MatchString(text) {
		e.Kind, e.Reason = CannotStart, initrdStopped
	} else if text == explainedLine {
		e.Kind, e.Reason = Explained, initrdStopped
	} else {
		e.Kind, e.Name = systemdStatus(text)
	}
	return e, e.Kind != ""
}

// systemdStatus recognises systemd's own progress.
func systemdStatus(text string) (Kind, string) {
	if initrdLine.MatchString(text) {
		return InitStarted, ""
	}
	if welcomeLine.MatchString(text) {
		return RootSwitched, ""
	}
	if m := startingLine.FindStringSubmatch(text); m != nil {
		if m[1] == "ignition" {
			return Mark, markIgnition + "all stages"
		}
		return Mark, m[1]
	}
	if finishedLine.MatchString(text) {
		return Mark, markIgnitionDone
	}
	return "", ""
}

// kernelTime returns the time since kernel start that a line carries.
func kernelTime(text string) (time.Duration, bool) {
	m := kernelLine.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	return seconds(m[1]), true
}

// seconds reads a decimal number of seconds; what is not one becomes 0.
func seconds(s string) time.Duration {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f < 0 || f > 1e9 {
		return 0
	}
	return time.Duration(f * float64(time.Second)).Round(time.Microsecond)
}

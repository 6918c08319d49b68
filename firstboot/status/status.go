// SPDX-License-Identifier: Apache-2.0

// Package status tells the world how first boot stands, in three places: a JSON file, one
// console line per event, and an optional URL. Secrets appear in none of them.
//
// # Console lines
//
// Every line is written with one write, ends in a newline and has one of these forms.
// Programs may parse them; new kinds of line may be added, these do not change:
//
//	imgbuild: start NODE role ROLE t=UPTIME
//	imgbuild: phase NAME STATE TOOK (t=UPTIME)
//	imgbuild: phase NAME failed TOOK (t=UPTIME): REASON
//	imgbuild: phase NAME retrying TOOK (t=UPTIME): REASON
//	imgbuild: mark NAME t=UPTIME
//	imgbuild: node NODE Ready t=UPTIME
//	imgbuild: node NODE failed t=UPTIME: REASON
//
// STATE is "ok" (it ran) or "checked" (it was found done). TOOK and UPTIME are seconds
// with two and one decimals and an "s": "0.12s", "48.2s". UPTIME counts from kernel
// start (CLOCK_BOOTTIME), so that it can be set beside the kernel's own messages. REASON
// is one line. A mark is a moment that is not the end of a phase, such as the API's first
// answer.
//
// # Status file
//
// The file is JSON, a Status value. It is replaced atomically, so a reader sees an
// entire document of one moment.
package status

import (
	"time"

	"github.com/imgbuild/imgbuild/firstboot/phase"
)

// Path is where the status file lives; it does not outlive the boot.
const Path = "/run/imgbuild/status.json"

// Version is the format of the status file. Fields may be added within a version.
const Version = 1

// State is where first boot as a whole stands. The zero value is invalid.
type State string

// The states.
const (
	Running State = "running"
	Ready   State = "ready"
	Failed  State = "failed"
)

// Status is the content of the status file.
type Status struct {
	Version int    `json:"version"`
	Node    string `json:"node"`
	Role    string `json:"role"`
	State   State  `json:"state"`
	// Boot is the kernel's boot id.
	Boot string `json:"boot"`
	// BootTime is the wall clock at kernel start as seen when the file was written; all
	// other times are seconds since then.
	BootTime time.Time `json:"bootTime"`
	// Image is IMAGE_ID and IMAGE_VERSION of the running image.
	Image string `json:"image,omitempty"`
	// Started and Ended bound the run; Ended is 0 while it lasts.
	Started float64 `json:"started"`
	Ended   float64 `json:"ended,omitempty"`
	// Error is the reason of a failed run.
	Error  string  `json:"error,omitempty"`
	Phases []Phase `json:"phases"`
	Marks  []Mark  `json:"marks,omitempty"`
}

// Phase is one phase's part of the status.
type Phase struct {
	Name  string   `json:"name"`
	Needs []string `json:"needs,omitempty"`
	// State is "waiting" or a phase.State.
	State phase.State `json:"state"`
	// Started is in seconds since kernel start, Took in seconds.
	Started  float64 `json:"started,omitempty"`
	Took     float64 `json:"took,omitempty"`
	Attempts int     `json:"attempts,omitempty"`
	Error    string  `json:"error,omitempty"`
}

// Waiting is the state of a phase whose needs are not done.
const Waiting phase.State = "waiting"

// Mark is a moment of the time line that is not the end of a phase.
type Mark struct {
	Name string  `json:"name"`
	At   float64 `json:"at"`
}

// Event is what the callback URL receives: a JSON object per transition.
type Event struct {
	Version int     `json:"version"`
	Node    string  `json:"node"`
	Role    string  `json:"role"`
	Boot    string  `json:"boot"`
	At      float64 `json:"at"` // seconds since kernel start
	// Phase is the phase that changed, absent when the run as a whole did.
	Phase *Phase `json:"phase,omitempty"`
	State State  `json:"state"`
	// Error and Log are set when the run failed: the reason and the last log lines.
	Error string   `json:"error,omitempty"`
	Log   []string `json:"log,omitempty"`
}

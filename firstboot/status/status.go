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
//	imgbuild: renew NODE failed t=UPTIME: REASON
//
// STATE is "ok" (it ran) or "checked" (it was found done). TOOK and UPTIME are seconds
// with two and one decimals and an "s": "0.12s", "48.2s". UPTIME counts from kernel
// start (CLOCK_BOOTTIME), so that it can be set beside the kernel's own messages. REASON
// is one line. A mark is a moment that is not the end of a phase, such as the API's first
// answer. "renew" is the renewal of certificates and tokens on a finished node; its failure is
// said once per boot and once a day while it lasts.
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
	// Version is that of the format, 1.
	Version int `json:"version"`
	// Node is the node name.
	Node string `json:"node"`
	// Role is that of the node document.
	Role string `json:"role"`
	// State is where the run stands: running, ready or failed.
	State State `json:"state"`
	// Boot is the kernel's boot id.
	Boot string `json:"boot"`
	// BootTime is the wall clock at kernel start as seen when the file was written; all
	// other times are seconds since then.
	BootTime time.Time `json:"bootTime"`
	// Image is IMAGE_ID and IMAGE_VERSION of the running image.
	Image string `json:"image,omitempty"`
	// Started is when the run began.
	Started float64 `json:"started"`
	// Ended is when it ended, 0 while it lasts.
	Ended float64 `json:"ended,omitempty"`
	// Error is the reason of a failed run.
	Error string `json:"error,omitempty"`
	// Phases are in the order of the plan.
	Phases []Phase `json:"phases"`
	// Marks are in the order they were seen.
	Marks []Mark `json:"marks,omitempty"`
}

// Phase is one phase's part of the status.
type Phase struct {
	// Name is the phase's name in the plan.
	Name string `json:"name"`
	// Needs names the phases it waits for.
	Needs []string `json:"needs,omitempty"`
	// State is where the phase stands; waiting means that its needs are not done.
	State phase.State `json:"state"`
	// Started is in seconds since kernel start.
	Started float64 `json:"started,omitempty"`
	// Took is in seconds.
	Took float64 `json:"took,omitempty"`
	// Attempts counts the tries so far.
	Attempts int `json:"attempts,omitempty"`
	// Error is why the last try failed.
	Error string `json:"error,omitempty"`
}

// Waiting is the state of a phase whose needs are not done.
const Waiting phase.State = "waiting"

// Mark is a moment of the time line that is not the end of a phase.
type Mark struct {
	// Name is lower case, digits and dashes.
	Name string `json:"name"`
	// At is in seconds since kernel start.
	At float64 `json:"at"`
}

// Event is what the callback URL receives: a JSON object per transition.
type Event struct {
	// Version is that of the format, 1.
	Version int `json:"version"`
	// Node is the node name.
	Node string `json:"node"`
	// Role is that of the node document.
	Role string `json:"role"`
	// Boot is the kernel's boot id.
	Boot string `json:"boot"`
	// At is in seconds since kernel start.
	At float64 `json:"at"`
	// Phase is the phase that changed, absent when the run as a whole did. The phase renew is not
	// of first boot: renewing certificates and tokens failed on a finished node.
	Phase *Phase `json:"phase,omitempty"`
	// State is where the run as a whole stands.
	State State `json:"state"`
	// Error is the reason of a failed run.
	Error string `json:"error,omitempty"`
	// Log holds the last log lines of a failed run.
	Log []string `json:"log,omitempty"`
}

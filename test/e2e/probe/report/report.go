// SPDX-License-Identifier: Apache-2.0

// Package report holds what the probe prints, for the probe and for the tests that read it.
package report

import (
	"fmt"
	"slices"
	"strings"
)

// Facts describes a running node.
type Facts struct {
	BootID      string  `json:"bootID"`
	CommandLine string  `json:"commandLine"`
	Mounts      []Mount `json:"mounts"`
	// DeviceMapper maps "major:minor" to a device.
	DeviceMapper map[string]Device `json:"deviceMapper"`
}

// Device is a device-mapper device. A verity target's UUID begins with CRYPT-VERITY-.
type Device struct {
	Name     string `json:"name"`
	UUID     string `json:"uuid"`
	ReadOnly bool   `json:"readOnly"`
}

// Mount is one line of mountinfo.
type Mount struct {
	Device  string   `json:"device"` // major:minor
	Point   string   `json:"point"`
	Options []string `json:"options"`
	Type    string   `json:"type"`
	Source  string   `json:"source"`
	Super   []string `json:"super"`
}

// Writable says whether neither the mount nor its file system is read-only.
func (m Mount) Writable() bool {
	return !slices.Contains(m.Options, "ro") && !slices.Contains(m.Super, "ro")
}

// ParseMount reads a line of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
func ParseMount(line string) (Mount, error) {
	left, right, ok := strings.Cut(line, " - ")
	l, r := strings.Fields(left), strings.Fields(right)
	if !ok || len(l) < 6 || len(r) < 3 {
		return Mount{}, fmt.Errorf("not a line of mountinfo: %q", line)
	}
	return Mount{Device: l[2], Point: unescape(l[4]), Options: strings.Split(l[5], ","),
		Type: r[0], Source: unescape(r[1]), Super: strings.Split(r[2], ",")}, nil
}

var escapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func unescape(s string) string { return escapes.Replace(s) }

// Walk is what trying to write to every file and directory of a file system found.
type Walk struct {
	Files       int `json:"files"`
	Directories int `json:"directories"`
	// Writable lists what could be written to, Surprises refusals other than EROFS.
	Writable  []string `json:"writable"`
	Surprises []string `json:"surprises"`
	// Mounts lists where other file systems are mounted.
	Mounts []string `json:"mounts"`
}

// What the probe writes about a reset, line by line: everything that is left, then how it ended.
const (
	LeftPrefix  = "probe: left: "
	ResetPrefix = "probe: reset: "
)

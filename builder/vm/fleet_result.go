// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"time"

	"github.com/imgbuild/imgbuild/builder/timeline"
)

// FleetResult describes a fleet whose nodes are all Ready.
type FleetResult struct {
	// Ready is the time from the first power-on to the last Ready node.
	Ready      timeline.Seconds `json:"ready"`
	Kubeconfig string           `json:"kubeconfig,omitempty"`
	Hosts      []FleetHostReady `json:"hosts"`
	// Timeline has the spans of every host, each name after the host's.
	Timeline *timeline.Timeline `json:"timeline"`
}

// FleetHostReady is one host of a result.
type FleetHostReady struct {
	Name    string           `json:"name"`
	Address string           `json:"address"`
	Ready   timeline.Seconds `json:"ready"`
	Console string           `json:"console"`
	PID     int              `json:"pid,omitempty"`
}

// Result says how the machines came up.
func (f *Fleet) Result() *FleetResult {
	r := &FleetResult{}
	if api := f.api.Load(); api != nil {
		r.Kubeconfig = api.kubeconfig
	}
	lines := make([]hostLine, 0, len(f.Members))
	for _, m := range f.Members {
		machine, line := m.Machine(), m.Timeline()
		h := FleetHostReady{Name: m.Host.Name, Address: m.Host.Address.String(), Ready: line.Ready, Console: m.Console()}
		if machine != nil {
			h.PID = machine.PID()
			lines = append(lines, hostLine{m.Host.Name, machine.console.began().Sub(f.Started), line})
		}
		r.Hosts = append(r.Hosts, h)
	}
	r.Timeline = mergeTimelines(lines)
	r.Ready = r.Timeline.Ready
	return r
}

// hostLine is the time line of one host and when the host began on the common axis.
type hostLine struct {
	host  string
	began time.Duration
	line  *timeline.Timeline
}

// mergeTimelines puts hosts on one axis. All are Ready when the last is.
func mergeTimelines(hosts []hostLine) *timeline.Timeline {
	t := &timeline.Timeline{Title: "cluster"}
	ready := len(hosts) > 0
	for _, h := range hosts {
		began := timeline.Seconds(h.began)
		t.Machine = h.line.Machine
		for _, s := range h.line.Spans {
			s.Name, s.Start, s.End = h.host+" "+s.Name, s.Start+began, s.End+began
			t.Spans = append(t.Spans, s)
		}
		for _, m := range h.line.Moments {
			t.Moments = append(t.Moments, timeline.Moment{Name: h.host + " " + m.Name, At: m.At + began})
		}
		if h.line.Ready == 0 {
			ready = false
			continue
		}
		t.Moments = append(t.Moments, timeline.Moment{Name: h.host + " Ready", At: h.line.Ready + began})
		t.Ready = max(t.Ready, h.line.Ready+began)
	}
	if !ready {
		t.Ready = 0
	}
	t.Sort()
	return t
}

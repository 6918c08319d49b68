// SPDX-License-Identifier: Apache-2.0

// Package timeline describes how a machine came up: spans and moments on one time axis that
// begins when the machine was switched on. It turns them into JSON, a table and a picture,
// and knows nothing about where they were observed.
package timeline

import (
	"encoding/json"
	"slices"
	"time"
)

// Group says what kind of thing a span is. The zero value is invalid.
type Group string

// The groups, in the order in which they are shown.
const (
	// Boot spans follow each other: firmware, boot loader, kernel, initrd, system, first boot.
	Boot Group = "boot"
	// Ignition spans are its stages.
	Ignition Group = "ignition"
	// Phase spans are first boot's phases; independent ones overlap.
	Phase Group = "phase"
)

var groups = []Group{Boot, Ignition, Phase}

// Title names a group for people.
func (g Group) Title() string {
	switch g {
	case Boot:
		return "Boot"
	case Ignition:
		return "Ignition"
	case Phase:
		return "First boot"
	}
	return string(g)
}

// Span is something that took time.
type Span struct {
	Group Group   `json:"group"`
	Name  string  `json:"name"`
	Start Seconds `json:"start"`
	End   Seconds `json:"end"`
	// Note is a word on the outcome when it is not plain success: "checked", "failed".
	Note string `json:"note,omitempty"`
}

// Took is the length of the span.
func (s Span) Took() time.Duration { return time.Duration(s.End - s.Start) }

// Moment is a point in time.
type Moment struct {
	Name string  `json:"name"`
	At   Seconds `json:"at"`
}

// Timeline is one boot.
type Timeline struct {
	// Title names what booted, Machine what it booted on.
	Title   string `json:"title"`
	Machine string `json:"machine"`
	// Spans are ordered by group, then start.
	Spans   []Span   `json:"spans"`
	Moments []Moment `json:"moments,omitempty"`
	// Ready is when the node was Ready; 0 if it was not.
	Ready Seconds `json:"ready,omitempty"`
}

// Seconds is a duration that JSON shows as seconds, rounded to milliseconds.
type Seconds time.Duration

// MarshalJSON implements json.Marshaler.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(s).Round(time.Millisecond).Seconds())
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *Seconds) UnmarshalJSON(text []byte) error {
	var f float64
	err := json.Unmarshal(text, &f)
	*s = Seconds(time.Duration(f * float64(time.Second)).Round(time.Millisecond))
	return err
}

// D returns the value as the standard library's type.
func (s Seconds) D() time.Duration { return time.Duration(s) }

// Sort brings spans and moments into the documented order.
func (t *Timeline) Sort() {
	slices.SortStableFunc(t.Spans, func(a, b Span) int {
		if d := slices.Index(groups, a.Group) - slices.Index(groups, b.Group); d != 0 {
			return d
		}
		if a.Start != b.Start {
			return int(max(-1, min(1, a.Start-b.Start)))
		}
		return int(max(-1, min(1, a.End-b.End)))
	})
	slices.SortStableFunc(t.Moments, func(a, b Moment) int { return int(max(-1, min(1, a.At-b.At))) })
}

// End is the last instant of the timeline.
func (t *Timeline) End() time.Duration {
	end := t.Ready
	for _, s := range t.Spans {
		end = max(end, s.End)
	}
	for _, m := range t.Moments {
		end = max(end, m.At)
	}
	return time.Duration(end)
}

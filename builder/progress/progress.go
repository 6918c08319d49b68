// SPDX-License-Identifier: Apache-2.0

// Package progress is how long work tells its caller where it stands. Libraries report
// to a Sink and never print; the command line chooses bars, plain lines, JSON or silence.
package progress

// Sink receives the life of tasks. Implementations are safe for concurrent use.
type Sink interface {
	// Start announces one piece of work. Total is its size in bytes, or 0 when there is
	// nothing to count; it may be corrected later through Task.Total.
	Start(name string, total int64) Task
}

// Task is one piece of work in progress.
type Task interface {
	// Total sets or corrects the expected number of bytes.
	Total(bytes int64)
	// Add reports that so many more bytes are done.
	Add(bytes int64)
	// Note replaces the short text beside the task ("cached", "resuming at 12 MiB").
	Note(text string)
	// Done ends the task, successfully when err is nil. Later calls do nothing.
	Done(err error)
}

// Discard is a Sink that reports nothing.
var Discard Sink = discard{}

type discard struct{}

func (discard) Start(string, int64) Task { return discard{} }
func (discard) Total(int64)              {}
func (discard) Add(int64)                {}
func (discard) Note(string)              {}
func (discard) Done(error)               {}

// SPDX-License-Identifier: Apache-2.0

package phase

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// JournalPath is where a node keeps its journal: on the state partition.
const JournalPath = "/var/lib/imgbuild/firstboot/journal"

// The events of a journal entry.
const (
	EventStart  = "start"
	EventDone   = "done"
	EventFailed = "failed"
)

// Entry is one line of the journal, in JSON.
type Entry struct {
	Time  time.Time `json:"time"`
	Boot  string    `json:"boot,omitempty"` // the kernel's boot id
	Phase string    `json:"phase"`
	Event string    `json:"event"`
	// Document is the digest of the node document the phase ran under.
	Document string `json:"document"`
	Attempt  int    `json:"attempt,omitempty"`
	// Checked is set on a done entry when Check found the outcome and Run was not called.
	Checked bool   `json:"checked,omitempty"`
	Error   string `json:"error,omitempty"`
}

// Record is what the journal knows about one phase.
type Record struct {
	// Document is the digest of the last entry of any kind.
	Document string
	// Done is set when the last entry is a done entry.
	Done bool
}

// ErrDamaged reports a journal with an unreadable line before the last one.
var ErrDamaged = errors.New("the journal is damaged")

// file is what a journal needs of an open file; tests cut the power behind it.
type file interface {
	io.Writer
	Sync() error
	Close() error
}

// Journal is an append-only file of entries, safe for concurrent use.
//
// What a power cut leaves. Each entry is appended with one write and followed by fsync
// before Append returns, and a phase acts only after its start entry is down:
//
//   - before the start entry is on disk: nothing of this phase happened; the file ends
//     with the previous entry, or with a torn piece of the start entry;
//   - between start and done: any part of the phase's work may exist; the phase runs
//     again, which its idempotence makes harmless;
//   - while the done entry is written: all work exists, but the entry may be torn; the
//     phase is treated as in the case before;
//   - after: the phase is checked, not run.
//
// Only the last line can be torn, because no write starts before the one before it was
// synced. Open cuts a torn last line off; an unreadable line elsewhere is ErrDamaged.
// The directory entry is synced when the file is created. What phases write themselves
// must be synced before they return, or the done entry could outlive the work.
type Journal struct {
	mu      sync.Mutex
	f       file
	records map[string]Record
	broken  error
}

// OpenJournal opens or creates the journal at path and reads what is in it.
func OpenJournal(path string) (*Journal, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	entries, whole, err := ParseJournal(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if whole < len(data) {
		err = errors.Join(f.Truncate(int64(whole)), f.Sync())
	}
	if err == nil && len(data) == 0 {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return newJournal(f, entries), nil
}

func newJournal(f file, entries []Entry) *Journal {
	j := &Journal{f: f, records: map[string]Record{}}
	for _, e := range entries {
		j.note(e)
	}
	return j
}

// ParseJournal reads entries. Whole is the length in bytes of the lines that are entire;
// what follows is a torn last line. The error wraps ErrDamaged and names the line.
func ParseJournal(data []byte) (entries []Entry, whole int, err error) {
	for n := 1; whole < len(data); n++ {
		end := bytes.IndexByte(data[whole:], '\n')
		if end < 0 {
			return entries, whole, nil
		}
		var e Entry
		if err := json.Unmarshal(data[whole:whole+end], &e); err != nil || e.Phase == "" || e.Event == "" {
			if whole+end+1 == len(data) {
				return entries, whole, nil // the disk may persist the end of a write before its middle
			}
			return nil, whole, fmt.Errorf("line %d is not an entry: %w; move the file away to start first boot from its checks", n, ErrDamaged)
		}
		entries = append(entries, e)
		whole += end + 1
	}
	return entries, whole, nil
}

// Append writes e and syncs it. After a failed write every later Append fails too: the
// end of the file is unknown until it is opened again.
func (j *Journal) Append(e Entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != nil {
		return j.broken
	}
	if _, err = j.f.Write(append(line, '\n')); err == nil {
		err = j.f.Sync()
	}
	if err != nil {
		j.broken = fmt.Errorf("writing the journal: %w", err)
		return j.broken
	}
	j.note(e)
	return nil
}

func (j *Journal) note(e Entry) {
	j.records[e.Phase] = Record{Document: e.Document, Done: e.Event == EventDone}
}

// Record returns what is known about a phase; ok is false when it never started.
func (j *Journal) Record(phase string) (r Record, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r, ok = j.records[phase]
	return r, ok
}

// Close closes the file.
func (j *Journal) Close() error { return j.f.Close() }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

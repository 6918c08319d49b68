// SPDX-License-Identifier: Apache-2.0

package phase

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func entry(phase, event string) Entry { return Entry{Phase: phase, Event: event, Document: "d"} }

func TestJournalSurvivesEveryTornEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []Entry{entry("a", EventStart), entry("a", EventDone), entry("b", EventStart)} {
		if err := j.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	j.Close()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ends := []int{0}
	for i, c := range data {
		if c == '\n' {
			ends = append(ends, i+1)
		}
	}
	for cut := 0; cut <= len(data); cut++ {
		if err := os.WriteFile(path, data[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := OpenJournal(path)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		a, knownA := j.Record("a")
		_, knownB := j.Record("b")
		if knownA != (cut >= ends[1]) || a.Done != (cut >= ends[2] && cut > 0) || knownB != (cut >= ends[3]) {
			t.Errorf("cut at %d: a %v %v, b %v", cut, knownA, a.Done, knownB)
		}
		// What follows must be readable too: the torn piece is gone.
		if err := j.Append(entry("c", EventDone)); err != nil {
			t.Fatal(err)
		}
		j.Close()
		j, err = OpenJournal(path)
		if err != nil {
			t.Fatalf("cut at %d, after another entry: %v", cut, err)
		}
		if c, ok := j.Record("c"); !ok || !c.Done {
			t.Errorf("cut at %d: the entry after the cut is lost", cut)
		}
		j.Close()
	}
}

func TestJournalRefusesDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	for _, bad := range []string{"garbage\n{\"phase\":\"a\",\"event\":\"done\"}\n", "{}\n{}\n", "{\"phase\":\"a\"}\n{\"phase\":\"a\",\"event\":\"done\"}\n"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := OpenJournal(path)
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

func TestJournalIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	j, err := OpenJournal(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "journal"): 0o600} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v %v, want %v", path, st.Mode(), err, want)
		}
	}
}

func TestJournalStaysBrokenAfterAFailedWrite(t *testing.T) {
	f := &flakyFile{left: 1}
	j := newJournal(f, nil)
	if err := j.Append(entry("a", EventStart)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := j.Append(entry("a", EventDone)); err == nil {
			t.Error("an entry behind a torn one was accepted")
		}
		f.left = 100 // the disk is fine again, but the end of the file is unknown
	}
	if r, _ := j.Record("a"); r.Done {
		t.Error("an entry that was not written counts")
	}
}

func FuzzParseJournal(f *testing.F) {
	f.Add([]byte("{\"phase\":\"a\",\"event\":\"done\"}\n{\"phase\":"))
	f.Add([]byte("\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, whole, err := ParseJournal(data)
		if whole < 0 || whole > len(data) {
			t.Fatalf("whole is %d of %d", whole, len(data))
		}
		if err != nil {
			return
		}
		again, n, err := ParseJournal(data[:whole])
		if err != nil || n != whole || len(again) != len(entries) {
			t.Errorf("the whole part reads differently: %v, %d of %d, %d entries of %d", err, n, whole, len(again), len(entries))
		}
	})
}

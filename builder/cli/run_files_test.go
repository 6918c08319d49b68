// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// Looking whether a file can be written changes nothing.
func TestWritable(t *testing.T) {
	dir := t.TempDir()
	there, fresh := filepath.Join(dir, "there"), filepath.Join(dir, "fresh")
	if err := os.WriteFile(there, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", there, fresh} {
		if err := writable("timeline", path); err != nil {
			t.Error(err)
		}
	}
	for _, path := range []string{dir, filepath.Join(dir, "no", "directory")} {
		if err := writable("timeline", path); fault.ClassOf(err) != fault.Usage {
			t.Errorf("%s: %v", path, err)
		}
	}
	if text, err := os.ReadFile(there); string(text) != "kept" {
		t.Errorf("%q %v", text, err)
	}
	if _, err := os.Stat(fresh); err == nil {
		t.Error("a file is left that nothing was written to")
	}
}

// A capture that stops is told of once, and at the end.
func TestCaptureFails(t *testing.T) {
	told := 0
	c, err := openCapture("/dev/full", func(err error) {
		if told++; !errors.Is(err, syscall.ENOSPC) {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	c.start()
	for range 2 {
		if _, err := c.Write([]byte("frame")); err == nil {
			t.Error("a full disk takes a frame")
		}
	}
	if err := c.close(); !errors.Is(err, syscall.ENOSPC) || told != 1 {
		t.Errorf("told %d times, at the end %v", told, err)
	}
	// Until its machines run, what is there may be another run's.
	path := filepath.Join(t.TempDir(), "pcap")
	if err := os.WriteFile(path, []byte("another run's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err = openCapture(path, nil); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(path); string(text) != "another run's" {
		t.Error("opening it empties it")
	}
	c.start()
	if err := c.close(); err != nil {
		t.Error(err)
	}
	if text, _ := os.ReadFile(path); len(text) > 0 {
		t.Error("it is not emptied")
	}
}

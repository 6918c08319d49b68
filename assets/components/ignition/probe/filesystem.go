// SPDX-License-Identifier: Apache-2.0

// Package probe finds out what is on a block device. Signatures of file systems are
// recognised by blkid and wipefs (both of util-linux), which know about all of them;
// partition tables are read here, since Ignition wants more about them than those print.
package probe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Filesystem describes what blkid recognised; all fields are empty when there is nothing.
type Filesystem struct {
	Type, UUID, Label string
}

// ErrAmbivalent reports signatures of more than one file system.
var ErrAmbivalent = errors.New("found multiple filesystem types")

// Exit statuses of blkid(8) in low-level probing mode.
const (
	blkidNothing    = 2
	blkidAmbivalent = 8
)

// FilesystemOn probes a device. With signatures of several file systems it fails with
// ErrAmbivalent, or with allowAmbivalent returns the first.
func FilesystemOn(device string, allowAmbivalent bool) (Filesystem, error) {
	f, err := os.Open(device) // blkid reports this with the same status as an empty device
	if err != nil {
		return Filesystem{}, err
	}
	f.Close()
	if allowAmbivalent {
		return firstSignature(device)
	}
	out, status, err := run("blkid", "--probe", "--output", "export", "--", device)
	switch {
	case err != nil:
		return Filesystem{}, err
	case status == blkidNothing:
		return Filesystem{}, nil
	case status == blkidAmbivalent:
		return Filesystem{}, fmt.Errorf("%s: %w", device, ErrAmbivalent)
	case status != 0:
		return Filesystem{}, fmt.Errorf("blkid %s ended with status %d", device, status)
	}
	return parseExport(out), nil
}

// parseExport reads blkid's export format: KEY=value lines in which characters that are
// special to a shell have a backslash before them.
func parseExport(out []byte) Filesystem {
	var fs Filesystem
	for line := range bytes.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), "=")
		switch key {
		case "TYPE":
			fs.Type = unescape(value)
		case "UUID":
			fs.UUID = unescape(value)
		case "LABEL":
			fs.Label = unescape(value)
		}
	}
	return fs
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// firstSignature asks wipefs, which lists everything it finds and changes nothing here.
func firstSignature(device string) (Filesystem, error) {
	out, status, err := run("wipefs", "--no-act", "--json", "--output", "USAGE,TYPE,UUID,LABEL", "--", device)
	if err != nil {
		return Filesystem{}, err
	}
	if status != 0 {
		return Filesystem{}, fmt.Errorf("wipefs %s ended with status %d", device, status)
	}
	return parseSignatures(out)
}

func parseSignatures(out []byte) (Filesystem, error) {
	if len(bytes.TrimSpace(out)) == 0 {
		return Filesystem{}, nil // what wipefs prints for an empty device
	}
	var list struct {
		Signatures []struct{ Usage, Type, UUID, Label string }
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return Filesystem{}, fmt.Errorf("output of wipefs: %w", err)
	}
	for _, s := range list.Signatures {
		if s.Usage != "partition-table" {
			return Filesystem{Type: s.Type, UUID: s.UUID, Label: s.Label}, nil
		}
	}
	return Filesystem{}, nil
}

// Devices returns the block devices that hold a file system of that type, sorted.
func Devices(fstype string) ([]string, error) {
	entries, err := filepath.Glob("/sys/class/block/*")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		size, err := os.ReadFile(filepath.Join(e, "size"))
		if err != nil || strings.TrimSpace(string(size)) == "0" {
			continue // an empty drive or an unused loop device
		}
		device := filepath.Join("/dev", strings.ReplaceAll(filepath.Base(e), "!", "/"))
		if fs, err := FilesystemOn(device, false); err == nil && fs.Type == fstype {
			found = append(found, device)
		}
	}
	slices.Sort(found)
	return found, nil
}

// run executes a program and returns its standard output and exit status.
func run(name string, args ...string) ([]byte, int, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return out, exit.ExitCode(), nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return out, 0, nil
}

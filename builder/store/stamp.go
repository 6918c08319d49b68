// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// stamp is what identifies unchanged content without reading it. Times are nanoseconds
// since 1970.
type stamp struct {
	Size  int64  `json:"size"`
	Inode uint64 `json:"inode"`
	MTime int64  `json:"mtime"`
	CTime int64  `json:"ctime"`
}

var errNotRegular = errors.New("not a regular file")

// stampOf reads the stamp of the regular file at path.
func stampOf(path string) (stamp, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return stamp{}, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return stamp{}, &fs.PathError{Op: "lstat", Path: path, Err: errNotRegular}
	}
	return stamp{Size: st.Size, Inode: st.Ino, MTime: st.Mtim.Nano(), CTime: st.Ctim.Nano()}, nil
}

// clockTick is the longest interval at which the kernel advances file times (HZ=100).
const clockTick = 10 * time.Millisecond

// settle waits until a change made from now on gets a later time than any in stamps.
// Without it a write in the same clock tick as the last one would leave no trace.
func settle(stamps ...stamp) {
	var latest int64
	for _, s := range stamps {
		latest = max(latest, s.MTime, s.CTime)
	}
	now := time.Now().UnixNano()
	if age := time.Duration(now - latest); age >= 0 && age <= clockTick {
		time.Sleep(clockTick - age + time.Millisecond)
	}
}

// readJSON decodes the file at path; any failure means there is no usable record.
func readJSON(path string, into any) bool {
	data, err := os.ReadFile(path)
	return err == nil && json.Unmarshal(data, into) == nil
}

// writeJSON replaces the file at path without syncing it: after a power cut it is old,
// new, empty or missing, and all but the new one merely cost a hash. The store may be on
// a read-only disk, so failing to write is not an error either.
func writeJSON(path string, value any) {
	data, err := json.Marshal(value)
	if err != nil {
		return
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".stamp-*")
	if err != nil {
		return
	}
	_, werr := f.Write(data)
	if cerr := f.Close(); werr != nil || cerr != nil || os.Rename(f.Name(), path) != nil {
		_ = os.Remove(f.Name())
	}
}

// touch records in the stamp file's mtime that the content was used, at most once a day:
// prune by age reads it.
func touch(path string) {
	info, err := os.Stat(path)
	if err == nil && time.Since(info.ModTime()) > 24*time.Hour {
		now := time.Now()
		_ = os.Chtimes(path, now, now)
	}
}

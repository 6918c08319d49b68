// SPDX-License-Identifier: Apache-2.0

package asuser

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func current() *user.User {
	return &user.User{Uid: strconv.Itoa(os.Getuid()), Gid: strconv.Itoa(os.Getgid())}
}

func TestAsCurrentUser(t *testing.T) {
	dir := t.TempDir()
	nested := filepath.Join(dir, "a/b/c")
	if err := MkdirAll(current(), nested, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := MkdirAll(current(), nested, 0o700); err != nil {
		t.Errorf("a second time: %v", err)
	}
	name := filepath.Join(nested, "keys")
	f, err := OpenFile(current(), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	st, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode is %o, want 600: the umask of the call is 077", st.Mode().Perm())
	}
	if err := Rename(current(), name, name+".new"); err != nil {
		t.Error(err)
	}
	if err := MkdirAll(current(), name+".new/sub", 0o700); err == nil {
		t.Error("a directory was made below a file")
	}
}

// The process's own umask and identity must not change with those of the call.
func TestProcessIsUntouched(t *testing.T) {
	old := unix.Umask(0o022)
	defer unix.Umask(old)
	if err := MkdirAll(current(), filepath.Join(t.TempDir(), "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := unix.Umask(0o022); got != 0o022 {
		t.Errorf("umask is %o after the call, want 022", got)
	}
}

func TestAsOtherUser(t *testing.T) {
	other := &user.User{Uid: "65534", Gid: "65534"}
	dir := t.TempDir()
	if os.Getuid() != 0 {
		if os.Getuid() == 65534 {
			t.Skip("the test's other user is this one")
		}
		if _, err := OpenFile(other, dir, unix.O_RDONLY, 0); err == nil {
			t.Error("an unprivileged process became another user")
		}
		return
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := OpenFile(other, filepath.Join(dir, "f"), unix.O_WRONLY|unix.O_CREAT, 0o600)
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("creating a file in root's directory: got %v, want permission denied", err)
	}
}

func TestBadIDs(t *testing.T) {
	if err := Rename(&user.User{Username: "x", Uid: "a", Gid: "-1"}, "a", "b"); err == nil {
		t.Error("no error for ids that are not numbers")
	}
}

// SPDX-License-Identifier: Apache-2.0

// Command probe looks at a node from inside. The boot tests deliver it through Ignition and run
// it in a privileged pod that shares the host's process ids; it joins the mount namespace of
// process 1, so that what it reports is the host's view and not a container's.
//
//	probe facts        mounts, device-mapper tables, boot id as JSON
//	probe walk         what can be written below /, staying on the root file system, as JSON
//	probe cat FILE...  the files, one after the other
//	probe sums DIR...  SHA-256 of every file below the directories, sorted
//	probe exec PROGRAM ARG...
//	probe tree FILE    write what there is below /etc and /var to FILE, unless that was done before
//	probe reset FILE   run firstboot reset, and say what is there that is not in FILE or is in use
//	probe panic FILE   say that the kernel met an int3 and make it panic, unless FILE, made before, exists
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/test/e2e/probe/report"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("name one of: facts, walk, cat, sums, exec, tree, reset, panic")
	}
	if err := joinHost(); err != nil {
		return err
	}
	switch args[0] {
	case "facts":
		return facts()
	case "walk":
		return walk()
	case "cat":
		return cat(args[1:])
	case "sums":
		return sums(args[1:])
	case "tree":
		return keepTree(args[1])
	case "reset":
		return reset(args[1])
	case "panic":
		return panicOnce(args[1])
	case "exec":
		return unix.Exec(args[1], args[1:], []string{"PATH=/usr/sbin:/usr/bin", "HOME=/root", "LC_ALL=C.UTF-8"})
	}
	return fmt.Errorf("%q is not a command", args[0])
}

// joinHost moves this thread, which main keeps, into process 1's mount namespace. The kernel
// wants a thread that shares its root and working directory with no other for that.
func joinHost() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	ns, err := os.Open("/proc/1/ns/mnt")
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("joining the host's mounts: %w", err)
	}
	return unix.Chdir("/")
}

// panicOnce leaves the file on the disk and the kernel in a panic.
func panicOnce(marker string) error {
	f, err := os.OpenFile(marker, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	unix.Sync()
	return errors.Join(f.Close(), os.WriteFile("/dev/kmsg", []byte("<0>Oops: int3: 0000 [#1] said by a test\n"), 0),
		os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0))
}

func facts() error {
	r := report.Facts{DeviceMapper: map[string]report.Device{}}
	// Not /proc/self: other threads are still where they were.
	f, err := os.Open(fmt.Sprintf("/proc/%d/task/%d/mountinfo", os.Getpid(), unix.Gettid()))
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		m, err := report.ParseMount(lines.Text())
		if err != nil {
			return err
		}
		r.Mounts = append(r.Mounts, m)
	}
	devices, err := filepath.Glob("/sys/block/dm-*")
	if err != nil {
		return err
	}
	for _, d := range devices {
		read := func(name string) string {
			b, _ := os.ReadFile(filepath.Join(d, name)) // absent means empty
			return strings.TrimSpace(string(b))
		}
		r.DeviceMapper[read("dev")] = report.Device{Name: read("dm/name"), UUID: read("dm/uuid"), ReadOnly: read("ro") == "1"}
	}
	read := func(name string) string {
		b, _ := os.ReadFile(name)
		return strings.TrimSpace(string(b))
	}
	r.BootID = read("/proc/sys/kernel/random/boot_id")
	r.CommandLine = read("/proc/cmdline")
	return json.NewEncoder(os.Stdout).Encode(r)
}

// walk tries to create a file in every directory of the root file system and asks, for every
// file, whether it could be opened for writing.
func walk() error {
	var root unix.Stat_t
	if err := unix.Lstat("/", &root); err != nil {
		return err
	}
	var r report.Walk
	err := filepath.WalkDir("/", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if st.Dev != root.Dev {
			if d.IsDir() {
				r.Mounts = append(r.Mounts, path)
				return filepath.SkipDir
			}
			return nil
		}
		switch {
		case d.IsDir():
			r.Directories++
			probe := filepath.Join(path, ".imgbuild-probe")
			if fd, err := unix.Open(probe, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600); err == nil {
				unix.Close(fd)
				_ = os.Remove(probe)
				r.Writable = append(r.Writable, path)
			} else if !errors.Is(err, unix.EROFS) {
				r.Surprises = append(r.Surprises, path+": "+err.Error())
			}
		case d.Type().IsRegular():
			r.Files++
			if fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NOFOLLOW, 0); err == nil {
				unix.Close(fd)
				r.Writable = append(r.Writable, path)
			} else if !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.ETXTBSY) {
				r.Surprises = append(r.Surprises, path+": "+err.Error())
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

func cat(files []string) error {
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(os.Stdout, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func sums(dirs []string) error {
	var out []string
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if err == nil {
				out = append(out, fmt.Sprintf("%x  %s", sha256.Sum256(data), path))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	slices.Sort(out)
	_, err := fmt.Println(strings.Join(out, "\n"))
	return err
}

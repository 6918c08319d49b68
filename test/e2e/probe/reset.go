// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/test/e2e/probe/report"
)

// written are the directories a machine keeps its state in.
var written = []string{"/etc", "/var"}

// tree lists what is below the written directories and no directory itself, sorted.
func tree() (out []string, err error) {
	for _, dir := range written {
		err = errors.Join(err, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return nil
			case err == nil && !d.IsDir():
				out = append(out, path)
			}
			return err
		}))
	}
	slices.Sort(out)
	return out, err
}

// keepTree writes the tree of the first time it is asked to.
func keepTree(file string) error {
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	paths, err := tree()
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(strings.Join(paths, "\n")), 0o600)
}

// reset runs firstboot reset and writes a line for everything that it left. It ends with a line
// that says how the reset ended.
func reset(file string) error {
	before, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	cmd := exec.Command("/usr/bin/firstboot", "reset", "--yes")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	ended := "ok"
	if err := cmd.Run(); err != nil {
		ended = "failed: " + err.Error()
	}
	left, err := leftovers(strings.Split(string(before), "\n"))
	if err != nil {
		return err
	}
	for _, what := range left {
		fmt.Println(report.LeftPrefix + what)
	}
	_, err = fmt.Println(report.ResetPrefix + ended)
	return err
}

// leftovers are the paths that were not there before, and what is still in use.
func leftovers(before []string) ([]string, error) {
	after, err := tree()
	if err != nil {
		return nil, err
	}
	out := slices.DeleteFunc(after, func(path string) bool {
		_, known := slices.BinarySearch(before, path)
		return known
	})
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		m, err := report.ParseMount(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, err
		}
		for _, dir := range []string{"/var/lib/kubelet/", "/run/containerd/", "/run/netns/"} {
			if strings.HasPrefix(m.Point, dir) {
				out = append(out, "mount "+m.Point)
			}
		}
	}
	pods, err := os.ReadFile("/sys/fs/cgroup/kubepods.slice/cgroup.events")
	if err == nil && strings.Contains(string(pods), "populated 1") {
		out = append(out, "processes of pods")
	}
	return out, nil
}

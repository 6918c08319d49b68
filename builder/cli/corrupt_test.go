// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What the store derived is damaged; the next build makes it again and the same image.
func TestHealsTheStore(t *testing.T) {
	t.Parallel()
	s := newSite(t).warm(t)
	s.build(t)
	want := digest(t, s.image)
	for _, c := range []struct {
		name   string
		damage func(*testing.T, string)
		files  []string
	}{
		{"written to", flip, []string{"initrd.img", "base-image.tar", "pause", "tiny.ko", "modules.dep.bin"}},
		{"rotten initrd", rot, []string{"initrd.img"}}, // read by us
		{"rotten module", rot, []string{"tiny.ko"}},    // copied into the root
		{"rotten program", rot, []string{"pause"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, file := range c.files {
				for _, name := range s.derived(t, file) {
					c.damage(t, name)
				}
			}
			s.build(t, "--force")
			if digest(t, s.image) != want {
				t.Error("the image differs from that of the undamaged store")
			}
		})
	}
	if r := s.Mirror.Requests(); len(r) != s.Packages() {
		t.Errorf("packages were fetched again: %q", r[s.Packages():])
	}
}

// derived returns the paths of files of the store by their base name.
func (s *site) derived(t *testing.T, base string) []string {
	t.Helper()
	var all []string
	for _, depth := range []string{"", "*/", "*/*/", "*/*/*/", "*/*/*/*/*/*/", "*/*/*/*/*/*/*/"} {
		hits, err := filepath.Glob(filepath.Join(s.cache, "entries", "*", "*", "files", depth+base))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, hits...)
	}
	if len(all) == 0 {
		t.Fatalf("the store has no %s", base)
	}
	return all
}

// flip changes a byte in the middle of a file and puts its modification time back.
func flip(t *testing.T, name string) {
	t.Helper()
	before := stat(t, name)
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.Chmod(name, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, before.Mode()); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, before.ModTime(), before.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// rot is what a failing disk does: other bytes behind an inode that nobody touched. Since
// the test cannot do that, it makes the store's record of the inode fit.
func rot(t *testing.T, name string) {
	t.Helper()
	flip(t, name)
	info := stat(t, name).Sys().(*syscall.Stat_t)
	dir := filepath.Dir(name)
	for filepath.Base(dir) != "files" {
		dir = filepath.Dir(dir)
	}
	record := filepath.Join(filepath.Dir(dir), "stamps")
	data, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	var stamps struct {
		Index string `json:"index"`
		Files []struct {
			Size  int64  `json:"size"`
			Inode uint64 `json:"inode"`
			MTime int64  `json:"mtime"`
			CTime int64  `json:"ctime"`
		} `json:"files"`
	}
	if err := json.Unmarshal(data, &stamps); err != nil {
		t.Fatal(err)
	}
	known := false
	for i := range stamps.Files {
		if f := &stamps.Files[i]; f.Inode == info.Ino {
			f.MTime, f.CTime, known = info.Mtim.Nano(), info.Ctim.Nano(), true
		}
	}
	if !known {
		t.Fatalf("%s does not know %s", record, name)
	}
	if data, err = json.Marshal(stamps); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(record, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/tool"
)

// A disk is used above the image that it was made on, and above no other.
func TestSameBase(t *testing.T) {
	images, dir := t.TempDir(), t.TempDir()
	image, copied := filepath.Join(images, "node.raw"), filepath.Join(images, "copy.raw")
	put := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	put(image, "first")
	put(copied, "first")
	put(filepath.Join(dir, overlayFile), "")
	s := Spec{Dir: dir, Image: image}
	prepared := func() error { return createOverlay(t.Context(), tool.New("/nonexistent"), s) }
	refused := func(what string) {
		t.Helper()
		if err := prepared(); fault.ClassOf(err) != fault.Usage || !strings.Contains(err.Error(), "remove "+dir) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("nothing says what is below")
	is, err := identify(image)
	if err == nil {
		err = is.write(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	accepted := func(what string) {
		t.Helper()
		if err := prepared(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	accepted("the same image")
	if err := os.Chtimes(image, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	accepted("touched")
	s.Image = copied
	accepted("copied")
	put(image, "other")
	refused("a copy, when the disk refers to what is something else now")
	s.Image = image
	refused("rebuilt, of the same size")
	if err := os.Remove(image); err != nil {
		t.Fatal(err)
	}
	s.Image = copied
	refused("a copy, when the image is gone")
}

// What is made is whole under its name, and what an interrupted run left is replaced.
func TestAppear(t *testing.T) {
	path := filepath.Join(t.TempDir(), varsFile)
	if err := os.WriteFile(path+".new", []byte("hal"), 0o600); err != nil {
		t.Fatal(err)
	}
	template := filepath.Join(t.TempDir(), "template")
	if err := os.WriteFile(template, []byte("whole"), 0o600); err != nil {
		t.Fatal(err)
	}
	during := ""
	if err := appear(path, func(temporary string) error {
		if _, err := os.Stat(path); err == nil {
			during = "the file has its name before it is whole"
		}
		return copyFile(template, temporary)
	}); err != nil || during != "" {
		t.Error(err, during)
	}
	if text, err := os.ReadFile(path); string(text) != "whole" {
		t.Errorf("%q %v", text, err)
	}
	failing := filepath.Join(t.TempDir(), "x")
	if err := appear(failing, func(temporary string) error {
		_ = os.WriteFile(temporary, []byte("hal"), 0o600)
		return os.ErrInvalid
	}); err == nil {
		t.Error("a failure is none")
	}
	if left, _ := filepath.Glob(failing + "*"); left != nil {
		t.Errorf("left %q", left)
	}
}

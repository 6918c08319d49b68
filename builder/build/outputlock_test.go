// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/plan"
	"github.com/imgbuild/imgbuild/builder/progress"
	"github.com/imgbuild/imgbuild/builder/store"
)

// announced is a sink that tells which task started.
type announced chan string

func (a announced) Start(name string, _ int64) progress.Task {
	a <- name
	return progress.Discard.Start(name, 0)
}

func locked(t *testing.T, cache, output string) (*Project, announced) {
	t.Helper()
	st, err := store.Open(cache)
	must(t, err)
	sink := make(announced, 10)
	return &Project{Env: Env{Store: st, Sink: sink}, Output: output, Plan: &plan.Plan{Key: "key"}}, sink
}

func TestBuildsOfOneOutputWait(t *testing.T) {
	cache, dir := t.TempDir(), t.TempDir()
	must(t, os.Symlink(dir, filepath.Join(dir, "link")))
	first, said := locked(t, cache, filepath.Join(dir, "node.raw"))
	unlock, err := first.lockOutput(t.Context())
	must(t, err)
	if len(said) != 0 {
		t.Errorf("the first says %q", <-said)
	}
	other, _ := locked(t, cache, filepath.Join(dir, "other.raw"))
	free, err := other.lockOutput(t.Context())
	must(t, err)
	free()

	// The same file by another name: it says why it waits, and gives up when told to.
	second, said := locked(t, cache, filepath.Join(dir, "link", ".", "node.raw"))
	ctx, interrupt := context.WithCancel(t.Context())
	outcome := make(chan error)
	go func() {
		_, err := second.lockOutput(ctx)
		outcome <- err
	}()
	if text := <-said; !strings.Contains(text, "wait for another build of "+second.Output) {
		t.Errorf("says %q", text)
	}
	interrupt()
	if err := <-outcome; !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}

	// It goes on when the first is done, and finds what the first has made.
	type made struct {
		upToDate bool
		err      error
	}
	done := make(chan made)
	go func() {
		_, upToDate, err := second.Make(t.Context(), false)
		done <- made{upToDate, err}
	}()
	<-said
	must(t, os.WriteFile(first.Output, []byte("image"), 0o600))
	must(t, first.record(&Result{}))
	unlock()
	if m := <-done; m.err != nil || !m.upToDate {
		t.Errorf("after waiting: %+v", m)
	}
}

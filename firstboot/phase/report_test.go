// SPDX-License-Identifier: Apache-2.0

package phase

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
)

type told []string

func (o *told) Transition(t Transition) {
	if t.State == Retrying {
		*o = append(*o, t.Err.Error())
	}
}

func TestReportTellsAReasonOnce(t *testing.T) {
	p := step("waits")
	p.Run = func(ctx context.Context, _ *world) error {
		for _, why := range []string{"a", "a", "b", "b", "a"} {
			Report(ctx, errors.New(why))
		}
		Report(ctx, nil)
		return nil
	}
	g, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	j, err := OpenJournal(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	var seen told
	if err := (&Runner[*world]{Graph: g, Journal: j, Observer: &seen}).Run(t.Context(), newWorld()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "b", "a"}; !slices.Equal(seen, want) {
		t.Errorf("%v, want %v", seen, want)
	}
	Report(t.Context(), errors.New("outside of a phase nobody listens"))
}

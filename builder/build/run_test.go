// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/plan"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// steps returns steps of a kind whose action is act, by name and needs: "c a b" needs a and b.
func steps(t *testing.T, act action, lines ...string) []*plan.Step {
	t.Helper()
	kind := plan.Kind("test " + t.Name())
	actions[kind] = act
	t.Cleanup(func() { delete(actions, kind) })
	var out []*plan.Step
	for _, line := range lines {
		f := strings.Fields(line)
		out = append(out, &plan.Step{Name: f[0], Kind: kind, Needs: f[1:]})
	}
	return out
}

func TestRunWaitsForNeeds(t *testing.T) {
	var mu sync.Mutex
	done := map[string]bool{}
	list := steps(t, func(_ context.Context, _ *work, s *plan.Step) error {
		mu.Lock()
		defer mu.Unlock()
		for _, need := range s.Needs {
			if !done[need] {
				t.Errorf("%s ran before %s was done", s.Name, need)
			}
		}
		done[s.Name] = true
		return nil
	}, "a", "b", "c a b", "d c", "e a", "f d e")
	for range 50 {
		clear(done)
		if err := (&work{}).run(t.Context(), list); err != nil || len(done) != 6 {
			t.Fatalf("%v, done %v", err, done)
		}
	}
}

// Steps that need nothing of each other run at the same time: each waits for the other.
func TestRunsInParallel(t *testing.T) {
	meet := map[string]chan struct{}{"a": make(chan struct{}), "b": make(chan struct{})}
	list := steps(t, func(ctx context.Context, _ *work, s *plan.Step) error {
		close(meet[s.Name])
		for _, there := range meet {
			select {
			case <-there:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}, "a", "b")
	if err := (&work{}).run(t.Context(), list); err != nil {
		t.Error(err)
	}
}

func TestRunStopsAtTheFirstError(t *testing.T) {
	boom := errors.New("boom")
	list := steps(t, func(ctx context.Context, _ *work, s *plan.Step) error {
		switch s.Name {
		case "bad":
			return boom
		case "after":
			t.Error("a step ran although what it needs failed")
		}
		<-ctx.Done() // the others are told to stop
		return ctx.Err()
	}, "bad", "long", "after bad")
	err := (&work{}).run(t.Context(), list)
	if !errors.Is(err, boom) || !strings.HasPrefix(err.Error(), "bad: ") {
		t.Errorf("error %v", err)
	}
}

func TestRunRefusesUnknownKinds(t *testing.T) {
	err := (&work{}).run(t.Context(), []*plan.Step{{Name: "x", Kind: "magic"}})
	if err == nil || !strings.Contains(err.Error(), `"magic"`) {
		t.Errorf("error %v", err)
	}
}

func TestEveryKindHasAnAction(t *testing.T) {
	for _, kind := range []plan.Kind{plan.Fetch, plan.Unpack, plan.Component, plan.Release, plan.Tool, plan.ModuleIndex, plan.InitrdModules, plan.BaseImage, plan.Initrd, plan.Root, plan.Image} {
		if actions[kind] == nil {
			t.Errorf("nothing carries out %s", kind)
		}
	}
}

func TestBlame(t *testing.T) {
	over, end := context.WithCancel(t.Context())
	end()
	plain := errors.New("glob matches nothing")
	for _, c := range []struct {
		name string
		ctx  context.Context
		err  error
		want fault.Class
	}{
		{"none", t.Context(), nil, fault.Unclassified},
		{"plain", t.Context(), plain, fault.Config},
		{"classified", t.Context(), fault.New(fault.TooSmall, "", "x"), fault.TooSmall},
		{"full disk", t.Context(), syscall.ENOSPC, fault.Unclassified},
		{"damaged", t.Context(), tree.ErrCorrupt, fault.Unclassified},
		{"interrupted", over, plain, fault.Unclassified},
	} {
		if got := fault.ClassOf(blame(c.ctx, fault.Config, c.err, "hint")); got != c.want {
			t.Errorf("%s: class %d, want %d", c.name, got, c.want)
		}
	}
}

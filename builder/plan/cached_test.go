// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"slices"
	"testing"

	"github.com/imgbuild/imgbuild/builder/plan"
	"github.com/imgbuild/imgbuild/builder/store"
)

// held is what a store has, by digest and key.
type held map[string]bool

func (h held) Has(d store.Digest) bool                 { return h[string(d)] }
func (h held) Lookup(k store.Key) (*store.Entry, bool) { return nil, h[string(k)] }

func TestMarkCached(t *testing.T) {
	s := sample()
	unpacked := func(name string) string {
		pkg, _ := s.Lock.Package(name)
		return string(s.UnpackKey(pkg))
	}
	all := func(p *plan.Plan) held {
		h := held{}
		for _, in := range p.Step("unpack").Inputs {
			h[in.Digest] = true
		}
		for _, step := range p.Steps {
			h[string(step.Key)] = true
		}
		return h
	}
	for name, c := range map[string]struct {
		change   func(held, *plan.Plan)
		todo     []string
		download int64
		missing  int // packages
	}{
		"warm": {func(held, *plan.Plan) {}, nil, 0, 0},
		"cold": {func(h held, _ *plan.Plan) { clear(h) },
			[]string{"fetch", "unpack", "component/agent", "component/ignition", "component/pause", "tool/kmod", "module-index", "initrd-modules", "base-image", "initrd"}, 600, 6},
		"one package is not unpacked": {func(h held, _ *plan.Plan) { delete(h, unpacked("udev")) }, []string{"fetch", "unpack"}, 100, 1},
		"but was downloaded":          {func(h held, _ *plan.Plan) { delete(h, unpacked("udev")); h[hex("udev")] = true }, []string{"unpack"}, 0, 0},
		"result is missing":           {func(h held, p *plan.Plan) { delete(h, string(p.Step("initrd").Key)) }, []string{"initrd"}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := mustPlan(t, s)
			h := all(p)
			c.change(h, p)
			p.MarkCached(h)
			var todo []string
			for _, step := range p.Steps {
				if !step.Cached && step.Kind != plan.Root && step.Kind != plan.Image {
					todo = append(todo, step.Name)
				}
			}
			if !slices.Equal(todo, c.todo) {
				t.Errorf("to do: %q, want %q", todo, c.todo)
			}
			if got := p.Download(); got != c.download {
				t.Errorf("downloads %d bytes, want %d", got, c.download)
			}
			if got := p.Step("fetch").Missing(); got != c.missing {
				t.Errorf("%d packages are missing, want %d", got, c.missing)
			}
		})
	}
}

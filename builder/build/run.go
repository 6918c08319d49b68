// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/builder/plan"
)

// compilers is how many components compile at once. The Go toolchain uses every core for
// one already; a second fills the gaps while the first links.
const compilers = 2

// action executes one step.
type action func(ctx context.Context, w *work, s *plan.Step) error

// actions says what each kind of step does.
var actions = map[plan.Kind]action{
	plan.Fetch:         fetchPackages,
	plan.Unpack:        unpackPackages,
	plan.Component:     buildComponent,
	plan.Release:       takeRelease,
	plan.Tool:          layOutTool,
	plan.ModuleIndex:   indexModules,
	plan.InitrdModules: indexInitrdModules,
	plan.BaseImage:     makeBaseImage,
	plan.Initrd:        composeInitrd,
	plan.Root:          composeRoot,
	plan.Image:         writeImage,
}

// run executes the steps, each as soon as all it needs is done, and stops at the first
// error. The plan's order satisfies every need, so a step never waits for a later one.
func (w *work) run(ctx context.Context, steps []*plan.Step) error {
	group, ctx := errgroup.WithContext(ctx)
	done := map[string]chan struct{}{}
	slots := make(chan struct{}, compilers)
	for _, s := range steps {
		done[s.Name] = make(chan struct{})
	}
	for _, s := range steps {
		act, ok := actions[s.Kind]
		if !ok {
			return fmt.Errorf("step %s: no action for kind %q", s.Name, s.Kind)
		}
		group.Go(func() error {
			for _, need := range s.Needs {
				select {
				case <-done[need]:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			if s.Kind == plan.Component && !s.Cached {
				select {
				case slots <- struct{}{}:
					defer func() { <-slots }()
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			if err := act(ctx, w, s); err != nil {
				return fmt.Errorf("%s: %w", s.Name, err)
			}
			close(done[s.Name])
			return nil
		})
	}
	return group.Wait()
}

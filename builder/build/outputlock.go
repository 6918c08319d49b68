// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/progress"
	"github.com/imgbuild/imgbuild/builder/store"
)

// Make returns the image of the plan: the one that is there when it is up to date and force
// is false, or a new one. Builds of the same output that share a cache run one after the
// other, because image and receipt are two files: of two at once, one's receipt could come
// to stand beside the other's image. What another build made meanwhile is not made again.
func (p *Project) Make(ctx context.Context, force bool) (result *Result, upToDate bool, err error) {
	if result, ok := p.UpToDate(); ok && !force {
		return result, true, nil
	}
	unlock, err := p.lockOutput(ctx)
	if err != nil {
		return nil, false, err
	}
	defer unlock()
	if result, ok := p.UpToDate(); ok && !force {
		return result, true, nil
	}
	p.Plan.MarkCached(p.Store) // another build may have filled or pruned the store
	result, err = p.Execute(ctx)
	return result, false, err
}

// lockOutput waits until no other process builds p.Output, and says so while it waits.
func (p *Project) lockOutput(ctx context.Context) (unlock func(), err error) {
	name, err := p.outputLock()
	if err != nil {
		return nil, err
	}
	var waiting progress.Task
	unlock, err = p.Store.Lock(ctx, name, func() { waiting = p.Sink.Start("wait for another build of "+p.Output, 0) })
	if waiting != nil {
		waiting.Done(err)
	}
	if err != nil {
		return nil, blame(ctx, fault.Usage, fmt.Errorf("lock of %s: %w", p.Output, err), "name a cache that can be written with --cache-dir")
	}
	return unlock, nil
}

// outputLock names the lock of p.Output: the same however the output is spelled.
func (p *Project) outputLock() (store.Digest, error) {
	output, err := filepath.Abs(p.Output)
	if err != nil {
		return "", err
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(output)); err == nil {
		output = filepath.Join(dir, filepath.Base(output))
	}
	return store.DigestOf([]byte("image " + output)), nil
}

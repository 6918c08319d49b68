// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/builder/fault"
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

// lockOutput waits until no other process builds p.Output, and says so while it waits. The
// lock is an flock on a file of the cache, which the kernel drops however its holder ends;
// the file stays, because removing it would let a third process lock another of that name.
func (p *Project) lockOutput(ctx context.Context) (unlock func(), err error) {
	name, err := p.outputLock()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, fault.Wrap(fault.Usage, err, "name a cache that can be written with --cache-dir")
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fault.Wrap(fault.Usage, err, "name a cache that can be written with --cache-dir")
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		task := p.Sink.Start("wait for another build of "+p.Output, 0)
		err = waitForLock(ctx, f)
		task.Done(err)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("waiting for another build of %s: %w", p.Output, err)
	}
	return func() { f.Close() }, nil
}

// outputLock names the lock's file: the same however the output is spelled.
func (p *Project) outputLock() (string, error) {
	output, err := filepath.Abs(p.Output)
	if err != nil {
		return "", err
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(output)); err == nil {
		output = filepath.Join(dir, filepath.Base(output))
	}
	return filepath.Join(p.Store.Dir(), "outputs", string(store.DigestOf([]byte(output)))), nil
}

// waitForLock polls, because nothing interrupts a waiting flock.
func waitForLock(ctx context.Context, f *os.File) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

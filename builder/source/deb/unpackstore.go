// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/progress"
	"github.com/imgbuild/imgbuild/builder/store"
)

// UnpackKey is the store key of p's unpacked form.
func UnpackKey(p lock.Package) store.Key {
	return store.NewKey("deb-unpacked", unpackVersion, p.SHA256)
}

// LoadUnpacked returns the unpacked form of p when the store has it, without doing work.
func LoadUnpacked(st *store.Store, p lock.Package) (*Unpacked, bool) {
	e, ok := st.Lookup(UnpackKey(p))
	if !ok {
		return nil, false
	}
	u, err := loadUnpacked(e.Dir)
	return u, err == nil
}

// Unpack returns the unpacked form of p, making it when the store does not have it. The
// package's own bytes must be in the store already, see Fetch.
func Unpack(ctx context.Context, st *store.Store, p lock.Package, sink progress.Sink) (*Unpacked, error) {
	e, err := st.Derive(ctx, UnpackKey(p), func(ctx context.Context, dir string) (err error) {
		name, err := st.Blob(store.Digest(p.SHA256))
		if err != nil {
			return fault.New(fault.Network, "fetch it first, with a mirror that can be reached", "package %s %s is not in the cache: %w", p.Name, p.Version, err)
		}
		task := sink.Start("unpack "+p.Name, p.Size)
		defer func() { task.Done(err) }()
		return unpackFile(ctx, name, dir, task)
	})
	if err != nil {
		return nil, fmt.Errorf("unpack %s %s: %w", p.Name, p.Version, err)
	}
	return loadUnpacked(e.Dir)
}

// UnpackAll unpacks packages in parallel, largest first, and returns them in the order
// of pkgs.
func UnpackAll(ctx context.Context, st *store.Store, pkgs []lock.Package, sink progress.Sink) ([]*Unpacked, error) {
	out := make([]*Unpacked, len(pkgs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, i := range bySize(pkgs) {
		g.Go(func() (err error) {
			out[i], err = Unpack(ctx, st, pkgs[i], sink)
			return err
		})
	}
	return out, g.Wait()
}

func unpackFile(ctx context.Context, name, dir string, task progress.Task) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := unpack(&countingReader{ctx: ctx, r: f, task: task}, info.Size(), dir); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/imgbuild/imgbuild/builder/cluster"
	"github.com/imgbuild/imgbuild/builder/fault"
)

// Fetch gets the kubeconfig of a cluster that keeps its authorities to itself.
type Fetch struct {
	// File is the kubeconfig. One that is there is used from the start.
	File string
	// Get writes it, with what dial reaches. It asks once.
	Get func(ctx context.Context, dial func(ctx context.Context, network, address string) (net.Conn, error)) error

	done bool
}

// How often it is asked for, and for how long. A control plane publishes what it needs when it
// is Ready, but one that joined later may be the one that answers.
const (
	fetchInterval = 2 * time.Second
	fetchLimit    = 10 * time.Minute
)

// findKubeconfig takes the kubeconfig that an earlier run or the user fetched. It is worth
// nothing without the disks of the machines that have the authority for it, and hosts that are
// told of the old authority would wait for it forever.
func (f *Fleet) findKubeconfig() error {
	o := &f.opts
	if o.Fetch == nil || o.Kubeconfig != "" {
		return nil
	}
	fetch := *o.Fetch // the caller's may be used again
	o.Fetch = &fetch
	if _, err := os.Stat(fetch.File); err != nil {
		return nil
	}
	machines, err := os.ReadDir(o.Dir)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(machines, func(m os.DirEntry) bool {
		_, err := os.Stat(filepath.Join(o.Dir, m.Name(), overlayFile))
		return err == nil
	}) {
		return fault.New(fault.Config, "if that cluster is gone, remove its kubeconfig and pki/ca.crt beside it, and render again",
			"%s is of a cluster whose authority these machines do not have: their disks are empty", fetch.File)
	}
	o.Kubeconfig = fetch.File
	return nil
}

// consolesTell says whether a host is Ready when its console says so. Where only the cluster can
// make the kubeconfig, the one that is there may be worth nothing.
func (f *Fleet) consolesTell() bool { return f.api.Load() == nil || f.opts.Fetch != nil }

// fetch gets the kubeconfig of a cluster that is Ready and lets it lead there. One that opens
// the API stays.
func (f *Fleet) fetch(ctx context.Context) error {
	o := &f.opts
	if f.api.Load() != nil && f.admitted(ctx) {
		o.Fetch.done = true
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	dial := func(ctx context.Context, _, address string) (net.Conn, error) { return f.Gateway.Dial(ctx, address) }
	for {
		err := o.Fetch.Get(ctx, dial)
		if err == nil {
			break
		}
		final := errors.Is(err, cluster.ErrOtherCluster)
		if !final {
			select {
			case <-time.After(fetchInterval):
				continue
			case <-f.ctx.Done():
				return f.ctx.Err()
			case <-ctx.Done():
				if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
					return ctx.Err()
				}
			}
		}
		return fault.Wrap(fault.Machine, fmt.Errorf("all hosts are Ready, but there is no kubeconfig: %w", err), "")
	}
	o.Kubeconfig, o.Fetch.done = o.Fetch.File, true
	return f.lead()
}

// admitted says whether the API takes the administrator for one.
func (f *Fleet) admitted(ctx context.Context) bool {
	for _, address := range f.opts.API {
		if f.Ask(ctx, address, "/api/v1/nodes?limit=1") == nil {
			return true
		}
	}
	return false
}

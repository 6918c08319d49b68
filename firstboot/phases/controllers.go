// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/cluster"
)

// A controller manager that leads waits ten seconds for /healthz and then gives up its
// process, though not its lease, which keeps the next one waiting for fifteen more. On a
// slow machine the API server writes its RBAC objects for longer than that, and among the
// first are those that let the controller manager lead. In a cluster that is being made,
// the lease is therefore first boot's until the API server is healthy.
const (
	controllersLease  = "kube-controller-manager"
	controllersHolder = "imgbuild-firstboot_"
	// leaseDuration is how long a power cut at this point delays the controllers.
	leaseDuration = 30 * time.Second
)

// holdControllers keeps the controller manager from leading until the function it returns
// is called. Without that call the lease is renewed until ctx ends and ends by itself soon
// after. A lease that exists belongs to a cluster that has been made.
func holdControllers(ctx context.Context, s *State, c *cluster.Client) (release func(context.Context) error, err error) {
	lease, err := c.Acquire(ctx, "kube-system", controllersLease, controllersHolder+s.Config.NodeName, leaseDuration)
	if lease == nil || err != nil {
		return func(context.Context) error { return nil }, err
	}
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-time.After(leaseDuration / 3):
				if err := lease.Renew(ctx); err != nil {
					s.Log.Warn("the lease of the controller manager was not renewed", "error", err)
				}
			case <-stop:
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	return func(ctx context.Context) error {
		close(stop)
		<-stopped
		return lease.Release(ctx)
	}, nil
}

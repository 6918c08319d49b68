// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// Lease is a lease of leader election (coordination.k8s.io/v1) that this client holds.
type Lease struct {
	client                  *Client
	namespace, name, holder string
	duration                time.Duration
}

// Acquire makes a lease that does not exist yet, or takes one that holder has already, and
// returns nil when anyone else has it. It tries again until ctx ends: the namespace of a
// new cluster appears some time after its API. The lease ends by itself after duration,
// unless it is renewed.
func (c *Client) Acquire(ctx context.Context, namespace, name, holder string, duration time.Duration) (*Lease, error) {
	l := &Lease{client: c, namespace: namespace, name: name, holder: holder, duration: duration}
	var taken bool
	err := c.Retry(ctx, func(ctx context.Context) error {
		now := metav1.NowMicro()
		fresh := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		fresh.Spec.AcquireTime = &now
		l.fill(&fresh.Spec, now)
		err := l.on(c.groups[coordinationv1.GroupName].Post()).Body(fresh).Do(ctx).Error()
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
		taken, err = l.change(ctx, func(spec *coordinationv1.LeaseSpec) { l.fill(spec, now) })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("acquiring lease %s/%s: %w", namespace, name, err)
	}
	if taken {
		return nil, nil
	}
	return l, nil
}

// Renew extends the lease by its duration from now.
func (l *Lease) Renew(ctx context.Context) error {
	_, err := l.change(ctx, func(spec *coordinationv1.LeaseSpec) { l.fill(spec, metav1.NowMicro()) })
	return err
}

// Release leaves the lease to whoever asks for it next.
func (l *Lease) Release(ctx context.Context) error {
	return l.client.Retry(ctx, func(ctx context.Context) error {
		_, err := l.change(ctx, func(spec *coordinationv1.LeaseSpec) {
			none, second := "", int32(1)
			spec.HolderIdentity, spec.LeaseDurationSeconds = &none, &second
		})
		return err
	})
}

func (l *Lease) fill(spec *coordinationv1.LeaseSpec, now metav1.MicroTime) {
	seconds := int32(l.duration / time.Second)
	spec.HolderIdentity, spec.LeaseDurationSeconds, spec.RenewTime = &l.holder, &seconds, &now
}

// change writes the lease back; taken says that someone else holds it, and it was not.
func (l *Lease) change(ctx context.Context, mutate func(*coordinationv1.LeaseSpec)) (taken bool, err error) {
	group := l.client.groups[coordinationv1.GroupName]
	var have coordinationv1.Lease
	if err := l.on(group.Get()).Name(l.name).Do(ctx).Into(&have); err != nil {
		return false, err
	}
	if h := have.Spec.HolderIdentity; h == nil || *h != l.holder {
		return true, nil
	}
	mutate(&have.Spec)
	return false, l.on(group.Put()).Name(l.name).Body(&have).Do(ctx).Error()
}

func (l *Lease) on(r *rest.Request) *rest.Request {
	return r.Namespace(l.namespace).Resource("leases").MaxRetries(0)
}

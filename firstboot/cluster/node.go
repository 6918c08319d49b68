// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

// Node returns the node of that name.
func (c *Client) Node(ctx context.Context, name string) (*corev1.Node, error) {
	n := &corev1.Node{}
	err := c.groups[""].Get().Resource("nodes").Name(name).MaxRetries(0).Do(ctx).Into(n)
	return n, err
}

// Nodes returns every node.
func (c *Client) Nodes(ctx context.Context) ([]corev1.Node, error) {
	list := &corev1.NodeList{}
	err := c.groups[""].Get().Resource("nodes").MaxRetries(0).Do(ctx).Into(list)
	return list.Items, err
}

// UpdateNode waits for the node to exist, changes it with mutate, which returns false
// when nothing is to be done, and writes labels and taints back. A concurrent change
// makes it start over.
func (c *Client) UpdateNode(ctx context.Context, name string, mutate func(*corev1.Node) bool) error {
	err := c.Retry(ctx, func(ctx context.Context) error {
		n, err := c.Node(ctx, name)
		if err != nil || !mutate(n) {
			return err
		}
		patch, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"resourceVersion": n.ResourceVersion, "labels": n.Labels},
			"spec":     map[string]any{"taints": n.Spec.Taints},
		})
		if err != nil {
			return err
		}
		return c.groups[""].Patch(types.MergePatchType).Resource("nodes").Name(name).MaxRetries(0).Body(patch).Do(ctx).Error()
	})
	if err != nil {
		return fmt.Errorf("updating node %s: %w", name, err)
	}
	return nil
}

// NotReadyError says why a node is not Ready.
type NotReadyError struct{ Node, Reason string }

func (e *NotReadyError) Error() string { return "node " + e.Node + " is not Ready: " + e.Reason }

// Ready returns nil when the node's Ready condition is true.
func Ready(n *corev1.Node) error {
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		if c.Status == corev1.ConditionTrue {
			return nil
		}
		return &NotReadyError{Node: n.Name, Reason: c.Message}
	}
	return &NotReadyError{Node: n.Name, Reason: "the kubelet has not reported yet"}
}

// WaitReady waits until the node is Ready.
func (c *Client) WaitReady(ctx context.Context, name string) error {
	return c.await(ctx, name, Ready)
}

// WaitReadyThisBoot waits until the node is Ready and the kubelet has reported since the
// boot with the given id: the Ready condition of the boot before survives a quick restart.
func (c *Client) WaitReadyThisBoot(ctx context.Context, name, bootID string) error {
	return c.await(ctx, name, func(n *corev1.Node) error {
		if n.Status.NodeInfo.BootID != bootID {
			return &NotReadyError{Node: name, Reason: "the kubelet has not reported since this boot"}
		}
		return Ready(n)
	})
}

// await watches the node until ok returns nil. A watch costs nothing while nothing
// changes; polling would compete for the processor with what it waits for.
func (c *Client) await(ctx context.Context, name string, ok func(*corev1.Node) error) error {
	last := error(&NotReadyError{Node: name, Reason: "it is not registered"})
	return c.Retry(ctx, func(ctx context.Context) error {
		// Without a resource version a watch begins with what is there.
		w, err := c.groups[""].Get().Resource("nodes").Param("watch", "true").
			Param("fieldSelector", "metadata.name="+name).MaxRetries(0).Watch(ctx)
		switch {
		case err != nil && ctx.Err() != nil: // what was seen last says more
			return fmt.Errorf("%w; %w", last, ctx.Err())
		case err != nil:
			return err
		}
		defer w.Stop()
		for {
			select {
			case <-ctx.Done():
				return fmt.Errorf("%w; %w", last, ctx.Err())
			case e, open := <-w.ResultChan():
				if !open {
					return last
				}
				n, isNode := e.Object.(*corev1.Node)
				if !isNode {
					return apierrors.FromObject(e.Object)
				}
				if last = ok(n); last == nil {
					return nil
				}
			}
		}
	})
}

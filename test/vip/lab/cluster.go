// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/imgbuild/imgbuild/firstboot/endpoint"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
)

// Cluster is what API servers would say about the nodes. Nobody says anything while none of the
// machines that were ever registered has one that answers.
type Cluster struct {
	mu       sync.Mutex
	nodes    []corev1.Node
	machines []*Machine
}

// Register adds a machine's node, or replaces it. Ready nodes became so long ago.
func (c *Cluster) Register(m *Machine, ready bool) {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.Name, Labels: map[string]string{kubeadm.ControlPlaneLabel: "", kubeadm.DeliveryLabel: "verity"}}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: m.Address.String()}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(time.Now().Add(-endpoint.Away))}}
	if ready {
		n.Status.Conditions[0].Status = corev1.ConditionTrue
	}
	c.Delete(m)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes, c.machines = append(c.nodes, n), append(c.machines, m)
}

// Delete removes a machine's node.
func (c *Cluster) Delete(m *Machine) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = slices.DeleteFunc(c.nodes, func(n corev1.Node) bool { return n.Name == m.Name })
}

// Nodes lists them.
func (c *Cluster) Nodes(context.Context) ([]corev1.Node, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.ContainsFunc(c.machines, func(m *Machine) bool { return m.answers.Load() }) {
		return nil, errors.New("no API server answers")
	}
	var out []corev1.Node
	for _, n := range c.nodes {
		out = append(out, *n.DeepCopy())
	}
	return out, nil
}

// announce is what a machine says about its peers.
func (c *Cluster) announce(name, value string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.nodes {
		if c.nodes[i].Name == name {
			c.nodes[i].Annotations = map[string]string{endpoint.Annotation: value}
			return nil
		}
	}
	return fmt.Errorf("node %s does not exist", name)
}

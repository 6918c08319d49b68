// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

// resources maps the kinds first boot writes to their REST resource; the value's second
// part says whether they live in a namespace.
var resources = map[string]struct {
	name       string
	namespaced bool
}{
	"ClusterRole":        {"clusterroles", false},
	"ClusterRoleBinding": {"clusterrolebindings", false},
	"ConfigMap":          {"configmaps", true},
	"DaemonSet":          {"daemonsets", true},
	"Deployment":         {"deployments", true},
	"Namespace":          {"namespaces", false},
	"Node":               {"nodes", false},
	"Role":               {"roles", true},
	"RoleBinding":        {"rolebindings", true},
	"Secret":             {"secrets", true},
	"Service":            {"services", true},
	"ServiceAccount":     {"serviceaccounts", true},
}

// target is where an object goes.
type target struct {
	client    rest.Interface
	kind      string
	resource  string
	namespace string
	name      string
}

func (t target) String() string {
	if t.namespace == "" {
		return t.kind + " " + t.name
	}
	return t.kind + " " + t.namespace + "/" + t.name
}

func (c *Client) target(obj runtime.Object) (target, error) {
	kinds, _, err := scheme.ObjectKinds(obj)
	if err != nil {
		return target{}, err
	}
	m, err := meta.Accessor(obj)
	if err != nil {
		return target{}, err
	}
	r, ok := resources[kinds[0].Kind]
	if !ok {
		return target{}, fmt.Errorf("kind %s is not one that first boot writes", kinds[0].Kind)
	}
	t := target{client: c.groups[kinds[0].Group], kind: kinds[0].Kind, resource: r.name, name: m.GetName()}
	if r.namespaced {
		if t.namespace = m.GetNamespace(); t.namespace == "" {
			return target{}, fmt.Errorf("%s %s has no namespace", t.kind, t.name)
		}
	}
	return t, nil
}

func (t target) on(r *rest.Request) *rest.Request {
	if t.namespace != "" {
		r = r.Namespace(t.namespace)
	}
	return r.Resource(t.resource).MaxRetries(0)
}

// Apply creates obj, or replaces what exists under its name, trying again until ctx ends.
// With keep, what exists is left as it is. The object is not modified. Errors name the
// object and never its content.
func (c *Client) Apply(ctx context.Context, obj runtime.Object, keep bool) error {
	t, err := c.target(obj)
	if err != nil {
		return err
	}
	if err := c.Retry(ctx, func(ctx context.Context) error { return t.write(ctx, obj, keep) }); err != nil {
		return fmt.Errorf("writing %s: %w", t, err)
	}
	return nil
}

// write is one attempt. A replacement carries the resource version and the fields that
// are the server's to choose, so that it is never a blind overwrite.
func (t target) write(ctx context.Context, obj runtime.Object, keep bool) error {
	fresh := obj.DeepCopyObject()
	m, err := meta.Accessor(fresh)
	if err != nil {
		return err
	}
	m.SetResourceVersion("") // kubeadm's DNS Service manifest carries "0"
	err = t.on(t.client.Post()).Body(fresh).Do(ctx).Error()
	if svc, ok := fresh.(*corev1.Service); ok && svc.Spec.ClusterIP != "" && apierrors.IsInvalid(err) {
		err = t.addressTaken(ctx, err)
	}
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	if keep {
		return nil
	}
	old, err := t.on(t.client.Get()).Name(t.name).Do(ctx).Get()
	if err != nil {
		return err
	}
	om, err := meta.Accessor(old)
	if err != nil {
		return err
	}
	m.SetResourceVersion(om.GetResourceVersion())
	if s, ok := fresh.(*corev1.Service); ok {
		keepServiceFields(s, old.(*corev1.Service))
	}
	return t.on(t.client.Put()).Name(t.name).Body(fresh).Do(ctx).Error()
}

// addressTaken looks closer at a Service that was refused. Its address is allocated before it
// is stored, so of two machines that create it at the same time one is told that the address
// is taken: that the Service exists, or will in a moment.
func (t target) addressTaken(ctx context.Context, refused error) error {
	err := t.on(t.client.Get()).Name(t.name).Do(ctx).Error()
	switch {
	case err == nil:
		return apierrors.NewAlreadyExists(schema.GroupResource{Resource: t.resource}, t.name)
	case apierrors.IsNotFound(err) && passing(refused):
		return apierrors.NewServiceUnavailable(refused.Error())
	case apierrors.IsNotFound(err):
		return refused
	}
	return err
}

// passing says that an address was refused for a reason that does not last. The API server calls
// whatever keeps it from allocating an address a fault of the Service: that somebody else does
// it at the moment, that an API server beside it, which has just begun too, is writing down the
// range for the first time, that etcd was too slow. What lasts is an address outside the range.
func passing(refused error) bool {
	text := refused.Error()
	return strings.Contains(text, "already allocated") ||
		strings.Contains(text, "failed to allocate IP") && !strings.Contains(text, "is not in the valid range")
}

// keepServiceFields copies what a Service may not lose on update.
func keepServiceFields(s, old *corev1.Service) {
	if s.Spec.ClusterIP == "" {
		s.Spec.ClusterIP = old.Spec.ClusterIP
	}
	if s.Spec.ClusterIPs == nil && s.Spec.ClusterIP == old.Spec.ClusterIP {
		s.Spec.ClusterIPs = old.Spec.ClusterIPs
	}
}

// Exists reports whether an object of obj's kind and name is there.
func (c *Client) Exists(ctx context.Context, obj runtime.Object) (bool, error) {
	t, err := c.target(obj)
	if err != nil {
		return false, err
	}
	err = t.on(t.client.Get()).Name(t.name).Do(ctx).Error()
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// Get reads the object of obj's kind and name into obj, whose other fields must be empty.
func (c *Client) Get(ctx context.Context, obj runtime.Object) error {
	t, err := c.target(obj)
	if err != nil {
		return err
	}
	if err := t.on(t.client.Get()).Name(t.name).Do(ctx).Into(obj); err != nil {
		return fmt.Errorf("reading %s: %w", t, err)
	}
	return nil
}

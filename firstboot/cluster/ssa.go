// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// FieldManager owns the fields of objects that ApplyAny writes.
const FieldManager = "imgbuild-firstboot"

// ApplyAny writes an object of any kind by server-side apply: fields that the object does not
// name are left to whoever set them, and doing it twice is doing it once. A kind that the API
// server does not know yet is waited for until ctx ends, as is a namespace. Errors do not
// quote a Secret.
func (c *Client) ApplyAny(ctx context.Context, obj *unstructured.Unstructured) error {
	body, err := json.Marshal(obj.Object)
	if err != nil {
		return fmt.Errorf("%s %s cannot be encoded", obj.GetKind(), obj.GetName()) // the cause could quote it
	}
	err = c.Retry(ctx, func(ctx context.Context) error {
		path, err := c.pathOf(ctx, obj)
		if err != nil {
			return err
		}
		return c.groups[""].Patch(types.ApplyYAMLPatchType).AbsPath(path...).Param("fieldManager", FieldManager).
			Param("force", "true").MaxRetries(0).Body(body).Do(ctx).Error()
	})
	if err != nil && obj.GetKind() == "Secret" {
		return fmt.Errorf("refused: %s", apierrors.ReasonForError(err))
	}
	return err
}

// ExistsAny reports whether an object of any kind is there.
func (c *Client) ExistsAny(ctx context.Context, obj *unstructured.Unstructured) (bool, error) {
	path, err := c.pathOf(ctx, obj)
	if err == nil {
		err = c.groups[""].Get().AbsPath(path...).MaxRetries(0).Do(ctx).Error()
	}
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// pathOf returns where an object is, having asked the API server about its kind.
func (c *Client) pathOf(ctx context.Context, obj *unstructured.Unstructured) ([]string, error) {
	gvk := obj.GroupVersionKind()
	path := []string{"/apis", gvk.Group, gvk.Version}
	if gvk.Group == "" {
		path = []string{"/api", gvk.Version}
	}
	r, err := c.resource(ctx, gvk, path)
	if err != nil {
		return nil, err
	}
	if r.Namespaced {
		namespace := obj.GetNamespace()
		if namespace == "" {
			namespace = metav1.NamespaceDefault // as kubectl has it
		}
		path = append(path, "namespaces", namespace)
	}
	return append(path, r.Name, obj.GetName()), nil
}

// resource asks what a kind is called in paths. Answers are kept; that there is none is not.
func (c *Client) resource(ctx context.Context, gvk schema.GroupVersionKind, path []string) (metav1.APIResource, error) {
	c.mu.Lock()
	r, ok := c.kinds[gvk]
	c.mu.Unlock()
	if ok {
		return r, nil
	}
	unknown := apierrors.NewNotFound(schema.GroupResource{Group: gvk.Group, Resource: gvk.Kind}, gvk.Version)
	unknown.ErrStatus.Message = fmt.Sprintf("the API server knows no kind %s in %s", gvk.Kind, gvk.GroupVersion())
	text, err := c.groups[""].Get().AbsPath(path...).MaxRetries(0).DoRaw(ctx)
	if apierrors.IsNotFound(err) {
		return r, unknown
	}
	if err != nil {
		return r, err
	}
	var list metav1.APIResourceList
	if err := json.Unmarshal(text, &list); err != nil {
		return r, fmt.Errorf("the kinds of %s: %w", gvk.GroupVersion(), err)
	}
	for _, r := range list.APIResources {
		// A subresource has a slash in its name and may have the kind, too.
		if r.Kind == gvk.Kind && !strings.Contains(r.Name, "/") {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.kinds == nil {
				c.kinds = map[schema.GroupVersionKind]metav1.APIResource{}
			}
			c.kinds[gvk] = r
			return r, nil
		}
	}
	return r, unknown
}

// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/imgbuild/imgbuild/firstboot/addons"
)

// ownManifest is out of order: an object of a kind that a later document makes, in a namespace
// that a later document makes.
const ownManifest = `# a network of somebody's own
---
apiVersion: example.com/v1
kind: Widget
metadata: {name: w, namespace: own}
size: 3
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: own}, data: {key: value}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: nowhere}}
---
apiVersion: v1
kind: Namespace
metadata: {name: own}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {size: {type: integer}}}}
`

// compareUserObjects finds what ownManifest says in a real cluster, and its second application
// leaves alone what others have added.
func compareUserObjects(t *testing.T, ctx context.Context, s *State) {
	if len(s.Node.Network.Manifests) == 0 {
		return
	}
	c, err := s.client()
	if err != nil {
		t.Fatal(err)
	}
	objs, err := addons.ReadManifests(s.Root, s.Node.Network.Manifests)
	if err != nil || len(objs) != 5 {
		t.Fatalf("%d objects, %v", len(objs), err)
	}
	for _, o := range objs {
		if there, err := c.ExistsAny(ctx, o.Obj); err != nil || !there {
			t.Errorf("%s: %v %v", o, there, err)
		}
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "nowhere"}}
	if err := c.Get(ctx, cm); err != nil {
		t.Fatal(err)
	}
	cm.Data = map[string]string{"added": "later"}
	cm.ManagedFields = nil
	cm.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}
	if err := c.Apply(ctx, cm, false); err != nil {
		t.Fatal(err)
	}
	if err := s.applyUserObjects(ctx); err != nil {
		t.Fatal(err)
	}
	again := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "nowhere"}}
	if err := c.Get(ctx, again); err != nil || again.Data["added"] != "later" {
		t.Errorf("%v %v", again.Data, err)
	}
}

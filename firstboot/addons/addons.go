// SPDX-License-Identifier: Apache-2.0

// Package addons lists the objects that first boot writes into a new cluster: what kubeadm
// v1.36 uploads, CoreDNS, kube-proxy and the pod network, as typed objects with the phase they
// belong to, what to do when they exist already, and what must be there before them. It also
// renders the CNI configuration that flannel's subnet file leads to. It never talks to a
// cluster.
package addons

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	v1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
)

// Phase is the first-boot phase an object is written in; the names are kubeadm's.
type Phase string

// The phases that write objects.
const (
	Admins         Phase = "cluster-admins"
	UploadConfig   Phase = "upload-config"
	UploadCerts    Phase = "upload-certs"
	BootstrapToken Phase = "bootstrap-token"
	AddonDNS       Phase = "addon-coredns"
	AddonProxy     Phase = "addon-kube-proxy"
	AddonNetwork   Phase = "addon-flannel"
)

// Policy says what to do with an object that exists. The zero value is invalid.
type Policy int

// The policies.
const (
	// Replace updates the existing object to ours, keeping what the server chose.
	Replace Policy = iota + 1
	// Keep leaves the existing object alone: other controllers or nodes add to it.
	Keep
)

// Object is one object to write.
type Object struct {
	Phase  Phase
	Policy Policy
	Obj    runtime.Object
	// After names objects, as Key writes them, that must exist first.
	After []string
	// Barrier marks what releases joining machines; it is written after all else.
	Barrier bool
}

// Meta is implemented by every object of the list.
type Meta interface {
	GetNamespace() string
	GetName() string
}

// Key identifies an object: "Kind namespace/name", or "Kind name" outside namespaces.
func Key(o runtime.Object) string {
	m := o.(Meta)
	if m.GetNamespace() == "" {
		return o.GetObjectKind().GroupVersionKind().Kind + " " + m.GetName()
	}
	return o.GetObjectKind().GroupVersionKind().Kind + " " + m.GetNamespace() + "/" + m.GetName()
}

// Inputs are the facts besides the configuration that objects carry.
type Inputs struct {
	// CAPEM is the cluster authority's certificate.
	CAPEM []byte
	// Certs, when not nil, are uploaded for control planes that join.
	Certs *CertUpload
}

// Objects returns everything, in an order that satisfies After.
func Objects(c *kubeadm.Config, in Inputs) ([]Object, error) {
	var all []Object
	for _, part := range []func(*kubeadm.Config, Inputs) ([]Object, error){
		admins, uploadConfig, uploadCerts, proxy, dns, network, bootstrapToken,
	} {
		objs, err := part(c, in)
		if err != nil {
			return nil, err
		}
		all = append(all, objs...)
	}
	slices.SortStableFunc(all, func(a, b Object) int { return rank(a) - rank(b) })
	return all, nil
}

func rank(o Object) int {
	if o.Barrier {
		return 1
	}
	return 0
}

// In selects the objects of some phases.
func In(all []Object, phases ...Phase) []Object {
	var out []Object
	for _, o := range all {
		if slices.Contains(phases, o.Phase) {
			out = append(out, o)
		}
	}
	return out
}

// in marks objects as belonging to a phase, replaced when they exist.
func in(p Phase, objs ...runtime.Object) []Object {
	out := make([]Object, len(objs))
	for i, o := range objs {
		out[i] = Object{Phase: p, Policy: Replace, Obj: o}
	}
	return out
}

func meta(namespace, name string) v1.ObjectMeta {
	return v1.ObjectMeta{Namespace: namespace, Name: name}
}

// configMap returns a ConfigMap. With hash, it is annotated with the SHA-256 over its values
// in the order of their keys, by which kubeadm later tells that nobody edited it.
func configMap(namespace, name string, data map[string]string, hash bool) *corev1.ConfigMap {
	cm := &corev1.ConfigMap{
		TypeMeta:   v1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: meta(namespace, name), Data: data,
	}
	if hash {
		cm.Annotations = map[string]string{kubeadm.ConfigHash: Hash(data)}
	}
	return cm
}

// Hash is the value of the component-config.hash annotation for data.
func Hash(data map[string]string) string {
	h := sha256.New()
	for _, k := range slices.Sorted(maps.Keys(data)) {
		h.Write([]byte(data[k]))
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

func serviceAccount(namespace, name string) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{TypeMeta: v1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: meta(namespace, name)}
}

func rbacType(kind string) v1.TypeMeta {
	return v1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: kind}
}

// readOne is a Role that may get one object, bound to subjects under the same name.
func readOne(namespace, name, resource, object string, subjects ...rbacv1.Subject) []runtime.Object {
	return []runtime.Object{
		&rbacv1.Role{TypeMeta: rbacType("Role"), ObjectMeta: meta(namespace, name), Rules: []rbacv1.PolicyRule{
			{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{resource}, ResourceNames: []string{object}}}},
		&rbacv1.RoleBinding{TypeMeta: rbacType("RoleBinding"), ObjectMeta: meta(namespace, name), Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name}},
	}
}

func clusterRole(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{TypeMeta: rbacType("ClusterRole"), ObjectMeta: meta("", name), Rules: rules}
}

func clusterBinding(name, role string, subjects ...rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{TypeMeta: rbacType("ClusterRoleBinding"), ObjectMeta: meta("", name), Subjects: subjects,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}}
}

func group(name string) rbacv1.Subject { return rbacv1.Subject{Kind: rbacv1.GroupKind, Name: name} }
func user(name string) rbacv1.Subject  { return rbacv1.Subject{Kind: rbacv1.UserKind, Name: name} }

func account(namespace, name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: name}
}

func encodeError(what string, err error) error { return fmt.Errorf("encoding %s: %w", what, err) }

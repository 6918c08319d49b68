// SPDX-License-Identifier: Apache-2.0

// Package cluster is the small API client of first boot: it creates or updates the objects
// of a new cluster and waits for the few things first boot waits for. It knows only the
// kinds that are needed, so that firstboot stays small and starts quickly.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// scheme holds the groups whose objects first boot writes.
var scheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, coordinationv1.AddToScheme, rbacv1.AddToScheme} {
		if err := add(s); err != nil {
			panic(err) // the types of one release fit together
		}
	}
	return s
}()

// Client talks to one API server.
type Client struct {
	groups map[string]rest.Interface
	// Pause is slept between attempts of a call that may be tried again.
	Pause time.Duration

	mu    sync.Mutex
	kinds map[schema.GroupVersionKind]metav1.APIResource
}

// FromFile returns a client for a kubeconfig file. A non-empty server ("https://ip:port")
// replaces the one in the file: a control plane talks to its own API server even where
// the file names the shared endpoint.
func FromFile(path, server string) (*Client, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	if server != "" {
		cfg.Host = server
	}
	return New(cfg)
}

// New returns a client. Calls are not throttled: first boot writes a few dozen objects
// once, and waiting for permission to do so is the larger part of kubeadm's time here.
func New(cfg *rest.Config) (*Client, error) {
	c := &Client{groups: map[string]rest.Interface{}, Pause: 100 * time.Millisecond}
	base := rest.CopyConfig(cfg)
	base.QPS = -1
	base.UserAgent = "imgbuild-firstboot"
	base.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	http, err := rest.HTTPClientFor(base)
	if err != nil {
		return nil, err
	}
	for _, gv := range []schema.GroupVersion{corev1.SchemeGroupVersion, appsv1.SchemeGroupVersion, coordinationv1.SchemeGroupVersion, rbacv1.SchemeGroupVersion} {
		g := rest.CopyConfig(base)
		g.GroupVersion = &gv
		g.APIPath = "/apis"
		if gv.Group == "" {
			g.APIPath = "/api"
		}
		rc, err := rest.RESTClientForConfigAndClient(g, http)
		if err != nil {
			return nil, err
		}
		c.groups[gv.Group] = rc
	}
	return c, nil
}

// Retry calls do until it succeeds, fails for good, or ctx ends; the error then holds the
// last failure.
func (c *Client) Retry(ctx context.Context, do func(context.Context) error) error {
	for {
		err := do(ctx)
		if err == nil || !Temporary(err) {
			return err
		}
		select {
		case <-ctx.Done():
			if errors.Is(err, ctx.Err()) {
				return err
			}
			return fmt.Errorf("%w; last answer: %w", ctx.Err(), err)
		case <-time.After(c.Pause):
		}
	}
}

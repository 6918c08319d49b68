// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

const leasePath = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x"

func (s *server) holder() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[leasePath]["spec"].(map[string]any)["holderIdentity"]
}

// TestLease lets client-go's leader election, which the controller manager uses, be the
// other candidate.
func TestLease(t *testing.T) {
	// The namespace of a new cluster appears after its API.
	s := &server{objects: map[string]map[string]any{}, failures: []metav1.StatusReason{metav1.StatusReasonNotFound, metav1.StatusReasonServiceUnavailable}}
	srv := httptest.NewServer(s)
	defer srv.Close()
	cfg := &rest.Config{Host: srv.URL}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.Pause = time.Millisecond
	lease, err := c.Acquire(t.Context(), "kube-system", "x", "us", time.Minute)
	if err != nil || lease == nil || s.holder() != "us" {
		t.Fatalf("%v, held by %v", err, s.holder())
	}

	cfg.ContentType = "application/json" // the server of these tests reads nothing else
	client, err := coordination.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	leads := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:          &resourcelock.LeaseLock{LeaseMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "x"}, Client: client, LockConfig: resourcelock.ResourceLockConfig{Identity: "them"}},
		LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 20 * time.Millisecond,
		Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: func(context.Context) { close(leads) }, OnStoppedLeading: func() {}},
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() { defer close(done); elector.Run(ctx) }()
	defer func() { cancel(); <-done }()

	if err := lease.Renew(t.Context()); err != nil {
		t.Error(err)
	}
	again, err := c.Acquire(t.Context(), "kube-system", "x", "us", time.Minute) // after a power cut
	if err != nil || again == nil {
		t.Fatalf("our own lease is not taken again: %v", err)
	}
	select {
	case <-leads:
		t.Fatal("another candidate leads while the lease is held")
	case <-time.After(200 * time.Millisecond): // ten of its attempts
	}
	if err := again.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-leads:
	case <-time.After(time.Minute):
		t.Fatal("nobody leads after the lease was released")
	}
	if other, err := c.Acquire(t.Context(), "kube-system", "x", "us", time.Minute); err != nil || other != nil {
		t.Errorf("a lease of someone else was taken: %v %v", other, err)
	}
	if err := lease.Release(t.Context()); err != nil || s.holder() != "them" {
		t.Errorf("%v, held by %v", err, s.holder())
	}
}

// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/cluster"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/manifests"
	"github.com/imgbuild/imgbuild/firstboot/phase"
)

// The objects of each phase that writes any.
var (
	uploadObjects = []addons.Phase{addons.UploadConfig}
	addonObjects  = []addons.Phase{addons.AddonDNS, addons.AddonProxy, addons.AddonNetwork}
	tokenObjects  = []addons.Phase{addons.BootstrapToken}
)

// awaitAPI waits for the API server's first answer and makes the binding that lets
// admin.conf administer the cluster.
func awaitAPI(ctx context.Context, s *State) error {
	ctx, cancel := context.WithTimeout(ctx, s.Node.Timeouts.KubernetesAPICall.D())
	defer cancel()
	defer s.markMeanwhile(ctx)()
	began := time.Now()
	if err := firstAnswer(ctx, s.Config.LocalEndpoint()); err != nil {
		return fmt.Errorf("the API server at %s did not answer: %w; see /var/log/pods and journalctl -u kubelet", s.Config.LocalURL(), err)
	}
	s.APIWait = time.Since(began)
	s.Mark("api-answers")
	objs, err := s.objects(addons.Admins)
	if err != nil {
		return err
	}
	if s.joined() {
		// A cluster made by an older kubeadm lacks the binding that this API server's own
		// certificate needs to reach kubelets.
		all, err := s.objects(addons.BootstrapToken)
		if err != nil {
			return err
		}
		for _, o := range all {
			if addons.Key(o.Obj) == "ClusterRoleBinding kubeadm:apiserver-kubelet-client" {
				objs = append(objs, o)
			}
		}
	}
	if err := s.write(ctx, objs); err != nil {
		return err
	}
	s.markWritten()
	return nil
}

// firstAnswer waits until the server at host:port answers any HTTP request. The API
// server opens its port early and answers much later: until the port is open a cheap
// connection attempt is made often, then one request waits for its answer, because a
// handshake given up and begun again only adds to the load. The status does not matter;
// /livez stays 500 for long after objects can be written.
func firstAnswer(ctx context.Context, endpoint string) error {
	client := probeClient(time.Minute)
	defer client.CloseIdleConnections()
	for {
		conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", endpoint)
		if err == nil {
			conn.Close()
			var status *statusError
			if err = health(ctx, client, "https://"+endpoint+"/livez"); err == nil || errors.As(err, &status) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// write applies objects: first those without conditions, then those that need others to
// exist, then the barrier.
func (s *State) write(ctx context.Context, objs []addons.Object) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	waves := make([][]addons.Object, 3)
	for _, o := range objs {
		i := 0
		switch {
		case o.Barrier:
			i = 2
		case len(o.After) > 0:
			i = 1
		}
		waves[i] = append(waves[i], o)
	}
	for _, wave := range waves {
		errs := make([]error, len(wave))
		var wg sync.WaitGroup
		for i, o := range wave {
			wg.Go(func() { errs[i] = c.Apply(ctx, o.Obj, o.Policy == addons.Keep || s.shared()) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

func writeObjects(phases ...addons.Phase) func(context.Context, *State) error {
	return func(ctx context.Context, s *State) error {
		if s.joined() {
			return nil // the cluster has its own
		}
		objs, err := s.objects(phases...)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, s.Node.Timeouts.KubernetesAPICall.D())
		defer cancel()
		return s.write(ctx, objs)
	}
}

func objectsThere(phases ...addons.Phase) func(context.Context, *State) error {
	return func(ctx context.Context, s *State) error {
		if s.joined() {
			return nil
		}
		objs, err := s.objects(phases...)
		if err != nil {
			return err
		}
		c, err := s.client()
		if err != nil {
			return err
		}
		for _, o := range objs {
			there, err := c.Exists(ctx, o.Obj)
			if err != nil {
				return err
			}
			if !there {
				return fmt.Errorf("%s does not exist", addons.Key(o.Obj))
			}
		}
		return nil
	}
}

// markControlPlane waits for the kubelet to register its node and gives it the labels a
// kubelet may not give itself, and the taints.
func markControlPlane(ctx context.Context, s *State) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.Node.Timeouts.NodeReady.D())
	defer cancel()
	if err := s.dressNode(ctx, c); err != nil {
		return err
	}
	s.Mark("node-registered")
	return c.Retry(ctx, func(ctx context.Context) error {
		nodes, err := c.Nodes(ctx)
		if err == nil {
			// It is told, and it works. Renew tells it again.
			phase.Report(ctx, twins(nodes, s.Config.NodeName))
		}
		return err
	})
}

// dressNode gives this machine's node, as soon as it is there, the labels and taints that a
// kubelet may not give itself.
func (s *State) dressNode(ctx context.Context, c *cluster.Client) error {
	return c.UpdateNode(ctx, s.Config.NodeName, func(n *corev1.Node) bool {
		changed := false
		if n.Labels == nil {
			n.Labels = map[string]string{}
		}
		for k, v := range manifests.AdminLabels(s.Config) {
			if old, ok := n.Labels[k]; !ok || old != v {
				n.Labels[k], changed = v, true
			}
		}
		for _, t := range manifests.NodeTaints(s.Config) {
			taint := corev1.Taint{Key: t.Key, Value: t.Value, Effect: corev1.TaintEffect(t.Effect)}
			if !slices.ContainsFunc(n.Spec.Taints, func(o corev1.Taint) bool { return o.MatchTaint(&taint) }) {
				n.Spec.Taints, changed = append(n.Spec.Taints, taint), true
			}
		}
		return changed
	})
}

// waitControlPlane waits until the components report themselves healthy on the
// endpoints that their manifests probe.
func waitControlPlane(ctx context.Context, s *State) error {
	ctx, cancel := context.WithTimeout(ctx, s.Node.Timeouts.ControlPlaneComponentHealthCheck.D())
	defer cancel()
	local := s.loopback()
	endpoints := []struct{ name, url string }{
		{kubeadm.APIServer, s.Config.LocalURL() + "/livez"},
		{kubeadm.ControllerManager, kubeadm.URL("https", local, kubeadm.ControllerManagerPort) + "/healthz"},
		{kubeadm.Scheduler, kubeadm.URL("https", local, kubeadm.SchedulerPort) + "/livez"},
	}
	client := probeClient(healthTimeout)
	defer client.CloseIdleConnections()
	errs := make([]error, len(endpoints))
	var wg sync.WaitGroup
	for i, e := range endpoints {
		wg.Go(func() {
			if err := awaitHealth(ctx, client, e.url); err != nil {
				errs[i] = fmt.Errorf("%s is not healthy: %w", e.name, err)
				return
			}
			s.Mark(e.name + "-healthy")
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// awaitAPIServer waits until the API server of this machine is healthy.
func (s *State) awaitAPIServer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.Node.Timeouts.ControlPlaneComponentHealthCheck.D())
	defer cancel()
	client := probeClient(healthTimeout)
	defer client.CloseIdleConnections()
	if err := awaitHealth(ctx, client, s.Config.LocalURL()+"/livez"); err != nil {
		return fmt.Errorf("%s is not healthy: %w", kubeadm.APIServer, err)
	}
	return nil
}

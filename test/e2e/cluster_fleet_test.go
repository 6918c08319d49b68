// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/cluster"
	"github.com/imgbuild/imgbuild/builder/vm"
)

// clusterRun is a running fleet and the client to look at its cluster.
type clusterRun struct {
	view
	fleet *vm.Fleet
}

// with returns the cluster for a subtest.
func (c *clusterRun) with(t *testing.T) *clusterRun {
	return &clusterRun{view: c.in(t), fleet: c.fleet}
}

// fleetOptions describe machines for tests; hosts and network are left to the caller.
func (e env) fleetOptions(t *testing.T, dir string) vm.FleetOptions {
	return vm.FleetOptions{
		Machine: vm.Spec{Image: e.image, DiskSize: 8 << 30, Accel: vm.Accel(os.Getenv("IMGBUILD_E2E_ACCEL"))},
		Dir:     filepath.Join(dir, "run"),
		Timeout: 2 * bootTimeout,
		Events: func(host string, ev vm.Event) {
			if t.Context().Err() == nil {
				t.Logf("%-8s %7.2f s  %-11s %s", host, ev.At.Seconds(), ev.Kind, ev.Text)
			}
		},
	}
}

// startFleet starts machines that end with the test. With IMGBUILD_E2E_CAPTURE set to a
// directory, every frame is kept there.
func (e env) startFleet(t *testing.T, o vm.FleetOptions) *clusterRun {
	t.Helper()
	f, err := vm.StartFleet(t.Context(), e.qemu, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	if dir := os.Getenv("IMGBUILD_E2E_CAPTURE"); dir != "" {
		file, err := os.Create(filepath.Join(dir, t.Name()+".pcap"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		f.Capture(file)
	}
	return &clusterRun{view: view{T: t, env: e, kubeconfig: o.Kubeconfig}, fleet: f}
}

// slowHosts are settings for machines that are emulated, several on one host.
const slowHosts = `
etcd: {heartbeatInterval: 500ms, electionTimeout: 5s}
timeouts:
  controlPlaneComponentHealthCheck: 15m
  kubeletHealthCheck: 15m
  kubernetesAPICall: 15m
  etcdAPICall: 10m
  discovery: 20m
  tlsBootstrap: 15m
  nodeReady: 25m
`

// renderCluster writes a cluster with the tool's own starter, renders it and returns its
// directory.
func (e env) renderCluster(t *testing.T, controlPlanes, workers int) (dir string, ix *cluster.Index) {
	t.Helper()
	dir = t.TempDir()
	text, err := e.output("cluster", "init", "--name", "demo", "--control-planes", fmt.Sprint(controlPlanes), "--workers", fmt.Sprint(workers))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "cluster.yaml")
	if err := os.WriteFile(file, []byte(text+"\n"+slowHosts), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := e.output("cluster", "render", file, "-o", dir); err != nil {
		t.Fatal(err)
	}
	if ix, err = cluster.ReadIndex(dir); err != nil {
		t.Fatal(err)
	}
	return dir, ix
}

// bootCluster renders a cluster and switches all its machines on at the same moment.
func (e env) bootCluster(t *testing.T, controlPlanes, workers int) (*clusterRun, *cluster.Index) {
	t.Helper()
	worker := os.Getenv("IMGBUILD_WORKER_IMAGE")
	if worker == "" {
		worker = filepath.Join(e.root, "out/worker-amd64.raw")
	}
	if _, err := os.Stat(worker); workers > 0 && err != nil {
		t.Fatalf("%v; run make image PROFILE=worker first", err)
	}
	dir, ix := e.renderCluster(t, controlPlanes, workers)
	layout, err := vm.ClusterFleet(dir, ix, nil)
	if err != nil {
		t.Fatal(err)
	}
	o := e.fleetOptions(t, dir)
	o.Hosts, o.Network, o.Names, o.API, o.Kubeconfig = layout.Hosts, layout.Network, layout.Names, layout.API, layout.Kubeconfig
	for i := range o.Hosts {
		if i >= controlPlanes {
			o.Hosts[i].Image = worker
		}
	}
	return e.startFleet(t, o), ix
}

// waitReady waits until every node is Ready.
func (c *clusterRun) waitReady() {
	c.Helper()
	if err := c.fleet.WaitReady(c.Context()); err != nil {
		c.Fatal(err)
	}
	r := c.fleet.Result()
	c.Logf("all Ready in %s\n%s", r.Ready.D().Round(10*time.Millisecond), r.Timeline.Table())
	keepTimeline(c.T, c.env, strings.ReplaceAll(c.Name(), "/", "-"), r.Timeline.SVG())
}

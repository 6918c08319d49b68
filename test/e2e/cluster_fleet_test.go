// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/builder/cluster"
	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phases"
	"github.com/imgbuild/imgbuild/test/emulated"
)

// clusterRun is a running fleet and the client to look at its cluster.
type clusterRun struct {
	view
	fleet *vm.Fleet
	done  *ends
}

// ends are the hosts on which first boot has come to its end.
type ends struct {
	mu    sync.Mutex
	hosts map[string]bool
}

func (e *ends) see(host string, ev vm.Event) {
	if ev.Kind == vm.PhaseEnded && ev.Name == phases.HandOver && ev.State == "ok" {
		e.mu.Lock()
		e.hosts[host] = true
		e.mu.Unlock()
	}
}

// missing are those of some hosts that have not come there.
func (e *ends) missing(members []*vm.Member) (out []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range members {
		if !e.hosts[m.Host.Name] {
			out = append(out, m.Host.Name)
		}
	}
	return out
}

// with returns the cluster for a subtest.
func (c *clusterRun) with(t *testing.T) *clusterRun {
	return &clusterRun{view: c.in(t), fleet: c.fleet, done: c.done}
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
	e.needRoom(t, len(o.Hosts), cmp.Or(o.Machine.MemoryMiB, vm.FleetMemoryMiB))
	done, tell := &ends{hosts: map[string]bool{}}, o.Events
	o.Events = func(host string, ev vm.Event) {
		done.see(host, ev)
		tell(host, ev)
	}
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
	return &clusterRun{view: view{T: t, env: e, kubeconfig: o.Kubeconfig}, fleet: f, done: done}
}

// rendering says what a cluster of the tool's own starter has in addition.
type rendering struct {
	controlPlanes, workers int
	// instead are pairs of what the starter has and what is there in its place.
	instead []string
	// text is appended to the cluster file; attached are files beside it.
	text     string
	attached map[string]string
	// probe, files and units go to every host.
	probe bool
	files []vm.GuestFile
	units []vm.GuestUnit
	// offline signs what pki.mode external asks for.
	offline *offline
}

// rendered is a cluster file and what was made of it.
type rendered struct {
	dir   string
	index *cluster.Index
	// said is everything the tool printed.
	said string
}

// host is the first host of a role.
func (r *rendered) host(role node.Role) string {
	for _, h := range r.index.Hosts {
		if h.Role == role {
			return h.Name
		}
	}
	return ""
}

// render writes a cluster with the tool's own starter and renders it.
func (e env) render(t *testing.T, o rendering) *rendered {
	t.Helper()
	r := &rendered{dir: t.TempDir()}
	run := func(args ...string) (out string) {
		cmd := exec.Command(e.imgbuild, args...)
		var errs strings.Builder
		cmd.Dir, cmd.Stderr = e.root, &errs
		text, err := cmd.Output()
		r.said += strings.Join(args, " ") + "\n" + string(text) + errs.String()
		if err != nil {
			t.Fatalf("%s: %v\n%s%s", cmd, err, text, errs.String())
		}
		return string(text)
	}
	text, err := emulated.VIP(run("cluster", "init", "--name", "demo", "--control-planes", fmt.Sprint(o.controlPlanes), "--workers", fmt.Sprint(o.workers)), "1s")
	if err != nil {
		t.Fatal(err)
	}
	text += emulated.FewControllers + o.text
	for pair := range slices.Chunk(o.instead, 2) {
		if text, err = emulated.Instead(text, pair[0], pair[1]); err != nil {
			t.Fatal(err)
		}
	}
	put := func(name, content string) { write(t, filepath.Join(r.dir, name), []byte(content)) }
	if o.probe || len(o.files)+len(o.units) > 0 {
		text += "butane: [test.bu]\n"
		put("test.bu", snippet(t, o))
	}
	for name, content := range o.attached {
		put(name, content)
	}
	put("cluster.yaml", text)
	file := filepath.Join(r.dir, "cluster.yaml")
	run("cluster", "check", file)
	if o.offline != nil {
		o.offline.publish(t, r.dir)
		o.offline.sign(t, r.dir, run("cluster", "render", file, "-o", r.dir, "--json"))
	}
	run("cluster", "render", file, "-o", r.dir)
	if r.index, err = cluster.ReadIndex(r.dir); err != nil {
		t.Fatal(err)
	}
	return r
}

// snippet is the Butane file that brings a rendering's files and the probe.
func snippet(t *testing.T, o rendering) string {
	t.Helper()
	type object = map[string]any
	files, units := []object{}, []object{}
	for _, f := range o.files {
		files = append(files, object{"path": f.Path, "mode": f.Mode, "contents": object{"inline": string(f.Data)}})
	}
	if o.probe {
		units = append(units, object{"name": probeUnit, "enabled": true, "contents": probeMount})
	}
	for _, u := range o.units {
		units = append(units, object{"name": u.Name, "enabled": strings.Contains(u.Contents, "[Install]"), "contents": u.Contents})
	}
	text, err := yaml.Marshal(object{"variant": "fcos", "version": "1.6.0", "storage": object{"files": files}, "systemd": object{"units": units}})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// renderCluster renders a cluster with nothing in addition and returns its directory.
func (e env) renderCluster(t *testing.T, controlPlanes, workers int) (dir string, ix *cluster.Index) {
	t.Helper()
	r := e.render(t, rendering{controlPlanes: controlPlanes, workers: workers})
	return r.dir, r.index
}

// bootCluster renders a cluster and switches all its machines on at the same moment.
func (e env) bootCluster(t *testing.T, controlPlanes, workers int) (*clusterRun, *cluster.Index) {
	t.Helper()
	dir, ix := e.renderCluster(t, controlPlanes, workers)
	return e.startCluster(t, dir, ix, nil), ix
}

// startCluster switches the machines of a rendered cluster on, after adjust.
func (e env) startCluster(t *testing.T, dir string, ix *cluster.Index, adjust func(*vm.FleetOptions)) *clusterRun {
	t.Helper()
	layout, err := vm.ClusterFleet(dir, ix, nil)
	if err != nil {
		t.Fatal(err)
	}
	o := e.fleetOptions(t, dir)
	o.Hosts, o.Network, o.Names, o.API, o.Kubeconfig = layout.Hosts, layout.Network, layout.Names, layout.API, layout.Kubeconfig
	o.Resolvers, o.Fronts, o.Fetch = layout.Resolvers, layout.Fronts, layout.Fetch
	for i := range o.Hosts {
		if o.Hosts[i].Role == node.Worker {
			o.Hosts[i].Image = e.workerImage(t)
		}
	}
	if adjust != nil {
		adjust(&o)
	}
	return e.startFleet(t, o)
}

// workerImage is the image of workers.
func (e env) workerImage(t *testing.T) string {
	t.Helper()
	image := os.Getenv("IMGBUILD_WORKER_IMAGE")
	if image == "" {
		image = filepath.Join(e.root, "out/worker-amd64.raw")
	}
	if _, err := os.Stat(image); err != nil {
		t.Fatalf("%v; run make image PROFILE=worker first", err)
	}
	return image
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

// waitDone waits until first boot has come to its end everywhere: every control plane has an
// API server of its own then.
func (c *clusterRun) waitDone() {
	c.Helper()
	c.eventually("every machine has handed over", 2*bootTimeout, func() error {
		if missing := c.done.missing(c.fleet.Members); len(missing) > 0 {
			return fmt.Errorf("%v have not", missing)
		}
		return nil
	})
	c.Logf("every machine has handed over %s after the first was switched on", time.Since(c.fleet.Started).Round(time.Second))
}

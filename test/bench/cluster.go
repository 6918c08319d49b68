// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/builder/cluster"
	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/test/emulated"
)

// shape is the size of a cluster.
type shape struct{ controlPlanes, workers int }

// parseShape reads "3" or "3+1".
func parseShape(text string) (s shape, err error) {
	planes, workers, more := strings.Cut(text, "+")
	s.controlPlanes, err = strconv.Atoi(planes)
	if err == nil && more {
		s.workers, err = strconv.Atoi(workers)
	}
	if err != nil || s.controlPlanes < 1 || s.workers < 0 {
		return s, fmt.Errorf("%q: write control planes or control planes+workers, as in 3 or 3+1", text)
	}
	return s, nil
}

func (s shape) String() string {
	if s.workers == 0 {
		return strconv.Itoa(s.controlPlanes)
	}
	return fmt.Sprintf("%d+%d", s.controlPlanes, s.workers)
}

// machines is the number of hosts.
func (s shape) machines() int { return s.controlPlanes + s.workers }

// words names the shape for people.
func (s shape) words() string {
	words := fmt.Sprintf("%d control planes", s.controlPlanes)
	if s.controlPlanes == 1 {
		words = "1 control plane"
	}
	switch s.workers {
	case 0:
		return words
	case 1:
		return words + ", 1 worker"
	}
	return fmt.Sprintf("%s, %d workers", words, s.workers)
}

// comparable says whether stock kubeadm, which refuses machines with one processor, is measured
// in this shape. Of one machine the part boot does that.
func (s shape) comparable(cpus int) bool { return s.controlPlanes > 1 && s.workers == 0 && cpus > 1 }

// bootsOfShape are the boots of one shape so far.
type bootsOfShape struct {
	shape
	comparison
}

// cluster measures clusters from power-on to the last Ready node, all machines switched on at
// the same moment. In the last run of the first shape with three control planes, the owner of
// the virtual address then loses what it can lose.
func (b *bench) cluster() error {
	qemu, err := b.qemu()
	if err != nil {
		return err
	}
	all := make([]bootsOfShape, len(b.shapes))
	for i, s := range b.shapes {
		all[i] = bootsOfShape{s, comparison{baseline: "stock kubeadm init and join", moment: "all Ready", ratio: 0.4}}
		if !s.comparable(b.machineCPUs) {
			continue
		}
		if _, err := b.stockMedia(); err != nil {
			return err
		}
	}
	errs := []error{b.clusters(qemu, all)}
	for _, s := range all {
		b.reportDone(s)
		errs = append(errs, b.compare(fmt.Sprintf(", %s (%d CPUs each, TCG)", s.words(), b.machineCPUs), s.comparison))
	}
	b.reportParallel(all)
	return errors.Join(errs...)
}

// clusters boots every shape as often as asked for, stock and ours by turns. What goes wrong
// does not keep the other of the two from being measured, and ends it then.
func (b *bench) clusters(qemu *tool.Set, all []bootsOfShape) error {
	var errs []error
	note := func(who string, s *bootsOfShape, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s, %s: %w", who, s.words(), err))
		}
	}
	for run := range b.runs {
		failover := run == b.runs-1
		for i := range all {
			s := &all[i]
			if s.comparable(b.machineCPUs) {
				r, err := b.stockCluster(qemu, s.controlPlanes)
				if note("stock kubeadm", s, err); err == nil {
					s.stock = append(s.stock, r)
				}
			}
			then := func(*running, *cluster.Index) {}
			if failover && s.controlPlanes >= 3 {
				failover = false
				then = func(f *running, ix *cluster.Index) { note("failover", s, b.incidents(f, ix)) }
			}
			r, err := b.ourCluster(qemu, s.shape, then)
			if note("imgbuild", s, err); err == nil {
				s.ours = append(s.ours, r)
			}
			if len(errs) > 0 {
				return errors.Join(errs...)
			}
		}
	}
	return nil
}

// reportDone compares the moments when nothing is left to do: imgbuild's machines have handed
// over, each with an API server of its own, and kubeadm has come to its end on every machine.
// Nodes are Ready before that, for they register with whatever API server answers first. Runs in
// which stock machines did not come there say nothing about it.
func (b *bench) reportDone(s bootsOfShape) {
	if len(s.ours) == 0 {
		return
	}
	b.report.add(Measure{Name: "power-on to every machine done, " + s.words(), Unit: "s", Runs: column(s.ours, done)})
	var ours, stock []booted
	for i := range min(len(s.ours), len(s.stock)) {
		if s.stock[i].done > 0 {
			ours, stock = append(ours, s.ours[i]), append(stock, s.stock[i])
		}
	}
	if len(stock) == 0 {
		return
	}
	b.report.add(Measure{Name: "stock kubeadm, power-on to every machine done, " + s.words(), Unit: "s", Runs: column(stock, done)})
	b.report.add(Measure{Name: "ours : stock, done, " + s.words(), Unit: "ratio", Runs: ratios(column(ours, done), column(stock, done))})
}

// reportParallel compares several control planes with one. What one does in parallel with
// others takes as long as alone where every virtual CPU has a core, and not on smaller hosts.
func (b *bench) reportParallel(all []bootsOfShape) {
	var one []booted
	for _, s := range all {
		if s.shape == (shape{1, 0}) {
			one = s.ours
		}
	}
	for _, s := range all {
		n := min(len(s.ours), len(one))
		if s.controlPlanes == 1 || n == 0 {
			continue
		}
		m := Measure{Name: s.words() + " : 1 control plane", Unit: "ratio", Runs: ratios(column(s.ours[:n], ready), column(one[:n], ready))}
		wanted := s.machines() * b.machineCPUs
		if runtime.NumCPU() >= wanted {
			m.Target = 1.5
		} else {
			m.Note = fmt.Sprintf("%d virtual CPUs on %d cores; the target of 1.5 is for one core each", wanted, runtime.NumCPU())
		}
		b.report.add(m)
	}
}

// ourCluster boots a rendered cluster once, and calls then while it runs.
func (b *bench) ourCluster(qemu *tool.Set, s shape, then func(*running, *cluster.Index)) (r booted, err error) {
	dir := filepath.Join(b.dir, "cluster")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ix, err := b.render(dir, s)
	if err != nil {
		return r, err
	}
	o, err := vm.ClusterFleet(dir, ix, nil)
	if err != nil {
		return r, err
	}
	if s.workers > 0 {
		worker, err := b.workerImage()
		if err != nil {
			return r, err
		}
		for i := range o.Hosts[s.controlPlanes:] {
			o.Hosts[s.controlPlanes+i].Image = worker
		}
	}
	o.Dir = filepath.Join(dir, "run")
	f, err := b.powerOn(qemu, power{title: "imgbuild, " + s.words(), FleetOptions: o, finished: handedOver})
	if err != nil {
		return r, err
	}
	defer f.Close()
	then(f, ix)
	return f.booted, nil
}

// render makes a cluster with the tool's own starter.
func (b *bench) render(dir string, s shape) (*cluster.Index, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	starter, err := b.imgbuild("cluster", "init", "--name", "bench", "--control-planes", strconv.Itoa(s.controlPlanes), "--workers", strconv.Itoa(s.workers))
	if err != nil {
		return nil, err
	}
	// How long the address takes to move is measured with the product's own adverts.
	if starter, err = emulated.VIP(starter, "300ms"); err != nil {
		return nil, err
	}
	snippet, err := agentSnippet(dir)
	if err != nil {
		return nil, err
	}
	settings := emulated.Cluster
	if b.machineCPUs == 1 {
		// What the static pods ask for together has to fit.
		if settings, err = emulated.Instead(settings, "cpuRequest: 800m", "cpuRequest: 250m"); err != nil {
			return nil, err
		}
	}
	file := filepath.Join(dir, "cluster.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "%s\n%sbutane: [%s]\n", starter, settings, snippet), 0o600); err != nil {
		return nil, err
	}
	if _, err := b.imgbuild("cluster", "render", file, "-o", dir); err != nil {
		return nil, err
	}
	return cluster.ReadIndex(dir)
}

// workerImage is the image of workers, which is built where it is not up to date.
func (b *bench) workerImage() (string, error) {
	image := filepath.Join(b.root, "out/worker-amd64.raw")
	_, err := b.imgbuild("--profile", "worker", "--output", image)
	return image, err
}

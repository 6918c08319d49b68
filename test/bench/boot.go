// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/test/stock"
)

// boot measures from starting QEMU to a Ready node, ours and stock kubeadm's by turns, and at
// the end of the last boot of each the memory of an idle control plane.
func (b *bench) boot() error {
	qemu, err := b.qemu()
	if err != nil {
		return err
	}
	media, err := b.stockMedia()
	if err != nil {
		return err
	}
	var errs []error
	for i, cpus := range b.cpus {
		c := comparison{baseline: "stock kubeadm init", moment: "Ready and kubeadm done", ratio: 0.45}
		if cpus >= 4 {
			c.target = 50
		}
		err := b.boots(qemu, media, cpus, i == len(b.cpus)-1, &c)
		if errs = append(errs, err, b.compare(fmt.Sprintf(" (%d CPUs, TCG)", cpus), c)); err != nil {
			break
		}
	}
	for _, m := range b.report.Memory {
		b.report.add(Measure{Name: "memory of an idle control plane, " + m.Name, Unit: "bytes", Runs: []float64{float64(m.Used)},
			Note: fmt.Sprintf("MemTotal - MemAvailable, %.0f s after it was done", idleAfter.Seconds())})
	}
	return errors.Join(errs...)
}

// boots boots one machine of each kind after the other as often as asked for. Of the last two
// it asks for the memory, too, when idle.
func (b *bench) boots(qemu *tool.Set, media *stock.Media, cpus int, idle bool, c *comparison) error {
	for run := range b.runs {
		idle := idle && run == b.runs-1
		m, err := b.ours(cpus)
		if err != nil {
			return err
		}
		r, err := b.bootOne(qemu, m, idle)
		if r.line != nil {
			c.ours = append(c.ours, r)
		}
		if err != nil {
			return fmt.Errorf("imgbuild: %w", err)
		}
		if m, err = b.stock(media, cpus); err != nil {
			return err
		}
		r, err = b.bootOne(qemu, m, idle)
		if r.line != nil {
			c.stock = append(c.stock, r)
		}
		if err != nil {
			return fmt.Errorf("stock kubeadm: %w", err)
		}
	}
	return nil
}

// comparison is boots of ours beside those of a baseline, made by turns.
type comparison struct {
	ours, stock []booted
	// baseline names stock, moment what its time ends with.
	baseline, moment string
	// target is that of ours in seconds, ratio that of ours to stock; 0 means there is none.
	target, ratio float64
}

// compare reports a comparison, as far as it was made; with is added to every name.
func (b *bench) compare(with string, c comparison) error {
	if len(c.ours) > 0 {
		b.report.add(Measure{Name: "power-on to Ready" + with, Unit: "s", Runs: column(c.ours, ready), Target: c.target})
		b.report.add(Measure{Name: "host CPU time until Ready, ours" + with, Unit: "s", Runs: column(c.ours, processor)})
	}
	if len(c.stock) > 0 {
		b.report.add(Measure{Name: c.baseline + with, Unit: "s", Runs: column(c.stock, ready), Note: "power-on to " + c.moment})
		b.report.add(Measure{Name: "host CPU time until Ready, stock" + with, Unit: "s", Runs: column(c.stock, processor)})
	}
	if n := min(len(c.ours), len(c.stock)); n > 0 {
		b.report.add(Measure{Name: "ours : stock" + with, Unit: "ratio", Runs: ratios(column(c.ours[:n], ready), column(c.stock[:n], ready)), Target: c.ratio})
	}
	return errors.Join(b.picture("imgbuild"+with, c.ours), b.picture(c.baseline+with, c.stock))
}

// picture keeps the last of several boots, for programs in the report and for people beside it.
func (b *bench) picture(name string, boots []booted) error {
	if len(boots) == 0 {
		return nil
	}
	line := boots[len(boots)-1].line
	b.report.line(name, line)
	file := strings.Join(strings.FieldsFunc(name, func(r rune) bool { return strings.ContainsRune(" ,()", r) }), "-") + ".svg"
	return os.WriteFile(filepath.Join(b.output, file), line.SVG(), 0o644)
}

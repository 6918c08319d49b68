// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// build measures warm builds. Each run makes the image, copies it with cp and syncs the copy,
// and makes it again from sources in which one small asset differs.
func (b *bench) build() error {
	source, asset, err := b.sourceCopy()
	if err != nil {
		return err
	}
	image, copied := filepath.Join(b.dir, "image.raw"), filepath.Join(b.dir, "copy.raw")
	var warm, changed, cp, rss []float64
	for i := range b.runs + 1 {
		took, peak, err := b.make(b.root, image)
		if err != nil {
			return err
		}
		start := time.Now()
		if out, err := exec.CommandContext(b.ctx, "sh", "-c", `cp "$0" "$1" && sync "$1"`, image, copied).CombinedOutput(); err != nil {
			return fmt.Errorf("cp: %w: %s", err, out)
		}
		copying := time.Since(start).Seconds()
		if err := appendLine(asset, fmt.Sprintf("# bench %d %d\n", os.Getpid(), i)); err != nil {
			return err
		}
		took2, peak2, err := b.make(source, image)
		if err != nil {
			return err
		}
		b.say("build %d: warm %.2f s, cp + sync %.2f s, after a change %.2f s", i, took, copying, took2)
		if err := os.Remove(copied); err != nil {
			return err
		}
		if i == 0 {
			continue // the first run warms the page cache and the changed sources' own steps
		}
		warm, cp, changed, rss = append(warm, took), append(cp, copying), append(changed, took2), append(rss, max(peak, peak2))
	}
	b.report.add(Measure{Name: "cp + sync of the image", Unit: "s", Runs: cp})
	b.report.add(Measure{Name: "warm build", Unit: "s", Runs: warm, Target: 5})
	b.report.add(Measure{Name: "warm build : cp + sync", Unit: "ratio", Runs: ratios(warm, cp), Target: 3})
	b.report.add(Measure{Name: "rebuild after changing an asset", Unit: "s", Runs: changed, Target: 5})
	b.report.add(Measure{Name: "rebuild : cp + sync", Unit: "ratio", Runs: ratios(changed, cp), Target: 3})
	b.report.add(Measure{Name: "peak memory of imgbuild", Unit: "bytes", Runs: rss, Target: 1 << 30})
	return nil
}

// make builds the image from nothing but the cache and returns seconds and bytes.
func (b *bench) make(source, image string) (seconds, rss float64, err error) {
	for _, f := range []string{image, image[:len(image)-len(".raw")] + ".json"} {
		if err := os.Remove(f); err != nil && !os.IsNotExist(err) {
			return 0, 0, err
		}
	}
	cmd := exec.CommandContext(b.ctx, b.tool, "--source", source, "--offline", "--progress", "none", "--profile", "controlplane", "--output", image)
	start := time.Now()
	out, err := cmd.CombinedOutput()
	seconds = time.Since(start).Seconds()
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, 0, fmt.Errorf("the system does not report what %s used", b.tool)
	}
	return seconds, float64(usage.Maxrss) * 1024, nil // Linux counts KiB
}

// sourceCopy copies what an image is made from and picks the asset to change.
func (b *bench) sourceCopy() (dir, asset string, err error) {
	dir = filepath.Join(b.dir, "source")
	for _, part := range []string{"profiles", "assets", "firstboot", "builder"} {
		if err := os.CopyFS(filepath.Join(dir, part), os.DirFS(filepath.Join(b.root, part))); err != nil {
			return "", "", err
		}
	}
	for _, f := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(b.root, f))
		if err != nil {
			return "", "", err
		}
		if err := os.WriteFile(filepath.Join(dir, f), data, 0o644); err != nil {
			return "", "", err
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, "assets/etc/sysctl.d/*"))
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("no asset to change in assets/etc/sysctl.d")
	}
	if err != nil {
		return "", "", err
	}
	return dir, found[0], nil
}

func appendLine(path, line string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(line); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

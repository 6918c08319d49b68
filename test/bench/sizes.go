// SPDX-License-Identifier: Apache-2.0

package main

import (
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// sizes measures the image and firstboot.
func (b *bench) sizes() error {
	packed, err := b.zstd()
	if err != nil {
		return err
	}
	b.report.add(Measure{Name: "image, zstd -19", Unit: "bytes", Runs: []float64{packed}, Target: 160e6})
	var receipt struct {
		Image struct {
			Root         struct{ DataSize float64 }
			Contributors []Contributor
		}
	}
	data, err := os.ReadFile(strings.TrimSuffix(b.image, ".raw") + ".json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &receipt); err != nil {
		return err
	}
	b.report.add(Measure{Name: "root file system", Unit: "bytes", Runs: []float64{receipt.Image.Root.DataSize}, Target: 600e6})
	b.report.Contributors = receipt.Image.Contributors[:min(10, len(receipt.Image.Contributors))]
	return b.firstboot()
}

// zstd compresses with the real program, from the locked packages.
func (b *bench) zstd() (float64, error) {
	b.say("compressing the image with zstd -19")
	cmd := exec.CommandContext(b.ctx, b.tool, "tool", "run", "verify", "zstd", "-19", "-T0", "-q", "-c", b.image)
	cmd.Dir, cmd.Stderr = b.root, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, out)
	if err != nil {
		return 0, err
	}
	if err := cmd.Wait(); err != nil {
		return 0, fmt.Errorf("%s: %w", cmd, err)
	}
	return float64(n), nil
}

func (b *bench) firstboot() error {
	path := filepath.Join(b.root, "out/firstboot")
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	f, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	note := "statically linked"
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			note = "DYNAMICALLY linked"
		}
	}
	b.report.add(Measure{Name: "firstboot", Unit: "bytes", Runs: []float64{float64(info.Size())}, Target: 30e6, Note: note})
	return nil
}

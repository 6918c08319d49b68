// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"cmp"
	"context"
	"io"
	"slices"

	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/progress"
)

// countingReader reports what passes through it and stops when its context ends.
type countingReader struct {
	ctx  context.Context
	r    io.ReaderAt
	task progress.Task
}

func (c *countingReader) ReadAt(p []byte, off int64) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.ReadAt(p, off)
	c.task.Add(int64(n))
	return n, err
}

// bySize returns the indexes of pkgs, the largest package first, so that parallel work
// does not end with one worker on the kernel and the others idle.
func bySize(pkgs []lock.Package) []int {
	out := make([]int, len(pkgs))
	for i := range out {
		out[i] = i
	}
	slices.SortStableFunc(out, func(a, b int) int { return cmp.Compare(pkgs[b].Size, pkgs[a].Size) })
	return out
}

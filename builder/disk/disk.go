// SPDX-License-Identifier: Apache-2.0

// Package disk writes a node image: a GPT disk with an EFI system partition, a sealed
// root and an empty slot for the next one.
//
// The order of writing is root, hash tree, EFI system partition, partition table. The
// file is sparse, has a temporary name until it is complete and on disk, and is then
// renamed, so that whatever happens the final name holds the old image or the new one.
package disk

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/imgbuild/imgbuild/builder/disk/fat"
	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/progress"
	"github.com/imgbuild/imgbuild/builder/seal"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// Spec says what to write.
type Spec struct {
	// Architecture is "amd64" or "arm64".
	Architecture string
	Layout       Layout
	// Label becomes the name of the root partition and its verity partition: the image's
	// id and version, from which an updater tells which slot is older.
	Label string
	// Tree is the root file system.
	Tree *tree.Tree
	// Timestamp in seconds since the epoch is the time of every file and directory.
	Timestamp int64
	// MakeESP returns the files of the EFI system partition. It is called when the root
	// hash is known, since the kernel command line carries it.
	MakeESP func(ctx context.Context, root seal.Root) ([]ESPFile, error)
}

// ESPFile is a file of the EFI system partition.
type ESPFile = fat.File

// Result describes a written image: what is where, and its digests.
type Result struct {
	Path         string      `json:"path"`
	Size         int64       `json:"size"`
	SectorSize   int         `json:"sectorSize"`
	Architecture string      `json:"architecture"`
	DiskUUID     seal.UUID   `json:"diskUUID"`
	Root         seal.Root   `json:"root"`
	Partitions   []Partition `json:"partitions"`
	Files        []FileSum   `json:"espFiles"`
}

// FileSum is the digest of a file of the EFI system partition.
type FileSum struct {
	Path   string      `json:"path"`
	Size   int64       `json:"size"`
	SHA256 seal.Digest `json:"sha256"`
}

// Write writes the image to path. Errors have the classes TooSmall (by how much), NoSpace
// (how much is needed), Config for an invalid layout, and Interrupted; damaged input is
// reported as seal.CorruptError. Nothing is left behind on an error.
func Write(ctx context.Context, path string, spec Spec, sink progress.Sink) (res Result, err error) {
	extents, total, err := spec.Layout.place()
	if err = errors.Join(err, checkLabel(spec.Label)); err != nil {
		return res, fault.Wrap(fault.Config, err, "correct image and layout in the profile")
	}
	task := sink.Start("write image", spec.Tree.Size())
	defer func() { task.Done(err) }()
	plan, err := seal.NewPlan(spec.Tree, seal.Options{Timestamp: spec.Timestamp, Volume: "root", Task: task})
	if err != nil {
		return res, fault.Wrap(fault.Config, err, "")
	}
	if err := fits(plan.Sizes(), spec.Layout); err != nil {
		return res, err
	}
	out, err := create(path, total, plan.Sizes())
	if err != nil {
		return res, err
	}
	defer out.discard()
	res = Result{Path: path, Size: total, SectorSize: spec.Layout.SectorSize, Architecture: spec.Architecture}
	if err := spec.fill(ctx, &res, out, plan, extents, total); err != nil {
		return Result{}, out.explain(ctx, err)
	}
	task.Note("syncing")
	if err := out.commit(ctx); err != nil {
		return Result{}, out.explain(ctx, err)
	}
	return res, nil
}

// fill writes everything into the file.
func (s Spec) fill(ctx context.Context, res *Result, w io.WriterAt, plan *seal.Plan, extents []extent, total int64) error {
	at := make(map[Slot]extent)
	for _, e := range extents {
		at[e.Slot] = e
	}
	root, err := plan.Write(ctx, section(w, at[RootA]), section(w, at[RootAVerity]))
	if err != nil {
		return err
	}
	res.Root = root
	files, err := s.MakeESP(ctx, root)
	if err != nil {
		return err
	}
	sums := make(chan []FileSum, 1)
	go func() { sums <- sum(files) }()
	used, err := s.writeESP(section(w, at[ESP]), at[ESP], root, files)
	res.Files = <-sums
	if err != nil {
		return err
	}
	if res.Partitions, err = describe(extents, s.Architecture, s.Label, root); err != nil {
		return fault.Wrap(fault.Config, err, "")
	}
	res.Partitions[0].Used = used
	res.DiskUUID = seal.DeriveUUID("imgbuild disk", root.Hash[:])
	if err := ctx.Err(); err != nil {
		return err
	}
	return writeTable(w, res.Partitions, res.DiskUUID, total, s.Layout.SectorSize)
}

func (s Spec) writeESP(w io.WriterAt, e extent, root seal.Root, files []ESPFile) (used int64, err error) {
	g, err := fat.Plan(e.Size, s.Layout.SectorSize)
	if err != nil {
		return 0, err
	}
	id := seal.DeriveUUID("imgbuild esp", root.Hash[:])
	err = fat.Write(w, g, files, fat.Options{
		Label:  "ESP",
		ID:     binary.LittleEndian.Uint32(id[:]),
		Time:   time.Unix(s.Timestamp, 0),
		Hidden: uint32(e.Offset / int64(s.Layout.SectorSize)),
	})
	if errors.Is(err, fat.ErrTooSmall) {
		return 0, fault.Wrap(fault.TooSmall, fmt.Errorf("EFI system partition: %w", err), "make layout.esp in the profile larger")
	} else if err != nil {
		return 0, err
	}
	return fat.Needed(g, files)
}

// fits reports a root that is larger than its slot, and by how much.
func fits(need seal.Sizes, l Layout) error {
	if need.DataSize <= l.Root {
		return nil
	}
	return fault.New(fault.TooSmall, fmt.Sprintf("set layout.root in the profile to at least %dMiB", ceilMiB(need.DataSize)),
		"the root file system needs %d bytes but its slot holds %d: %d bytes (%d MiB) too few",
		need.DataSize, l.Root, need.DataSize-l.Root, ceilMiB(need.DataSize-l.Root))
}

func sum(files []ESPFile) []FileSum {
	out := make([]FileSum, len(files))
	for k, f := range files {
		h := sha256.New()
		for _, piece := range f.Data {
			h.Write(piece)
		}
		out[k] = FileSum{Path: f.Path, Size: f.Size(), SHA256: seal.Digest(h.Sum(nil))}
	}
	return out
}

func section(w io.WriterAt, e extent) io.WriterAt { return io.NewOffsetWriter(w, e.Offset) }

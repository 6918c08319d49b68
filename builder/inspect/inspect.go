// SPDX-License-Identifier: Apache-2.0

// Package inspect reads a node image back: what the partitions are, which root hash the
// kernel will insist on, which versions the root holds and which pins it was made from.
// It believes nothing it reads: sizes are checked before they are used, checksums before
// what they cover, and on request every block of the root against its hash tree.
package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/imgbuild/imgbuild/builder/disk"
	"github.com/imgbuild/imgbuild/builder/disk/fat"
	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/progress"
	"github.com/imgbuild/imgbuild/builder/seal"
	"github.com/imgbuild/imgbuild/builder/uki"
)

// Image is what an image file says about itself.
type Image struct {
	Path string `json:"path"`
	// Size is the length of the file, Allocated what it takes on the disk: the
	// file is sparse. Both in bytes.
	Size         int64            `json:"size"`
	Allocated    int64            `json:"allocated,omitempty"`
	SectorSize   int              `json:"sectorSize"`
	Architecture string           `json:"architecture"`
	DiskUUID     seal.UUID        `json:"diskUUID"`
	Partitions   []disk.Partition `json:"partitions"`
	Root         Root             `json:"root"`
	// Kernels are the unified kernel images of the EFI system partition.
	Kernels []Kernel       `json:"kernels"`
	Files   []disk.FileSum `json:"espFiles"`
	// OSRelease holds the fields of the root's os-release.
	OSRelease map[string]string `json:"osRelease"`
	// Manifest is the file at manifest.Path, as the build wrote it.
	Manifest json.RawMessage `json:"manifest,omitempty"`
}

// Root describes the sealed root in slot A.
type Root struct {
	seal.Sizes
	// Hash is the root hash on the command line of the kernel named by Kernel.
	Hash       seal.Digest `json:"hash"`
	Kernel     string      `json:"kernel"`
	Salt       seal.Digest `json:"salt"`
	UUID       seal.UUID   `json:"uuid"`
	VerityUUID seal.UUID   `json:"verityUUID"`
	Files      uint64      `json:"files"`
	Timestamp  int64       `json:"timestamp"` // seconds since the epoch
	// Verified is true when every block was checked against the root hash.
	Verified bool `json:"verified"`
}

// Kernel is one unified kernel image.
type Kernel struct {
	Path         string            `json:"path"`
	Size         int64             `json:"size"`
	SHA256       seal.Digest       `json:"sha256"`
	Architecture string            `json:"architecture"`
	Release      string            `json:"release"`
	CommandLine  string            `json:"commandLine"`
	RootHash     seal.Digest       `json:"rootHash"`
	OSRelease    map[string]string `json:"osRelease"`
}

// Options choose how thorough to be.
type Options struct {
	// Verify reads the whole root and checks it against the root hash.
	Verify bool
	Sink   progress.Sink
}

// File inspects the raw image at path. Errors about its content have class Corrupt.
func File(ctx context.Context, path string, opts Options) (*Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.Usage, err, "name an existing raw image file")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fault.New(fault.Usage, "name a raw image file", "%s is not a regular file", path)
	}
	im, err := Read(ctx, f, info.Size(), opts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	im.Path = path
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		im.Allocated = st.Blocks * 512
	}
	return im, nil
}

// Read inspects an image of size bytes.
func Read(ctx context.Context, r io.ReaderAt, size int64, opts Options) (*Image, error) {
	im, err := read(ctx, r, size, opts)
	if err == nil {
		return im, nil
	}
	for _, class := range []error{disk.ErrTable, fat.ErrCorrupt, seal.ErrCorrupt, uki.ErrFormat, errContent, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, class) {
			return nil, fault.Wrap(fault.Corrupt, err, "build the image again, or copy it again from where it is whole")
		}
	}
	return nil, err
}

// errContent reports parts that are whole but contradict each other.
var errContent = errors.New("damaged image")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errContent, fmt.Sprintf(format, args...))
}

func read(ctx context.Context, r io.ReaderAt, size int64, opts Options) (*Image, error) {
	table, err := disk.ReadTable(r, size)
	if err != nil {
		return nil, err
	}
	im := &Image{Size: size, SectorSize: table.SectorSize, DiskUUID: table.UUID, Partitions: table.Partitions}
	parts := make(map[disk.Slot]*disk.Partition)
	for _, s := range []disk.Slot{disk.ESP, disk.RootA, disk.RootAVerity} {
		if parts[s] = table.Slot(s); parts[s] == nil {
			return nil, damaged("there is no %s partition", s)
		}
	}
	im.Architecture = strings.TrimPrefix(parts[disk.RootA].TypeName, "root-")
	if err := im.readESP(section(r, parts[disk.ESP]), parts[disk.ESP]); err != nil {
		return nil, fmt.Errorf("EFI system partition: %w", err)
	}
	if err := im.readRoot(ctx, r, parts[disk.RootA], parts[disk.RootAVerity], opts); err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	return im, im.readContent(section(r, parts[disk.RootA]))
}

func section(r io.ReaderAt, p *disk.Partition) *io.SectionReader {
	return io.NewSectionReader(r, p.Offset, p.Size)
}

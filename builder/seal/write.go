// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/builder/tree"
)

// chunkSize is how much of a file is read, hashed and written at a time: it stays in the
// second-level cache between the steps.
const chunkSize = 1 << 20

// pipelined is the size from which a file's own digest is computed beside the verity
// hashes and the writing of its blocks, so that one large program does not occupy a
// single processor while the others are done.
const pipelined = 8 << 20

// CorruptError names content that does not match the digest the tree recorded, and where
// it lies, so that the caller can drop it from the store and make it again. It wraps
// tree.ErrCorrupt.
type CorruptError struct {
	Path   string // in the image
	File   string // on the build machine; empty for content held in memory
	Offset int64
	Reason string
}

func (e *CorruptError) Error() string {
	where := "memory"
	if e.File != "" {
		where = fmt.Sprintf("%s at offset %d", e.File, e.Offset)
	}
	return fmt.Sprintf("%s: %v: %s (%s)", e.Path, tree.ErrCorrupt, e.Reason, where)
}

func (e *CorruptError) Unwrap() error { return tree.ErrCorrupt }

// writer is the state of one Write.
type writer struct {
	plan    *Plan
	data    io.WriterAt
	meta    []byte
	leaves  *leaves
	files   files
	buffers sync.Pool
}

// Write writes the file system to data and the hash tree to hash. Both are addressed from
// zero and must read as zeros where nothing is written. On an error their content is
// undefined. A CorruptError tells of damaged input.
func (p *Plan) Write(ctx context.Context, data, hash io.WriterAt) (Root, error) {
	w := &writer{
		plan:   p,
		data:   data,
		meta:   make([]byte, int64(p.metaBlocks)*BlockSize),
		leaves: newLeaves(p.blocks, p.salt),
	}
	w.buffers.New = func() any { b := make([]byte, chunkSize); return &b }
	defer w.files.closeAll()
	if err := w.writeContent(ctx); err != nil {
		return Root{}, err
	}
	if err := w.writeMetadata(); err != nil {
		return Root{}, err
	}
	rootHash, err := w.leaves.write(hash, p.verityUUID)
	if err != nil {
		return Root{}, err
	}
	root := Root{
		Sizes: p.Sizes(), Hash: rootHash, Salt: p.salt, UUID: p.uuid, VerityUUID: p.verityUUID,
		Files: len(p.inodes), Shared: p.shared,
	}
	root.DataPartition, root.HashPartition = PartitionUUIDs(rootHash)
	return root, nil
}

// writeContent copies every run. Large ones go first so that no processor is left with
// one at the end; the others go in the order they lie in their files.
func (w *writer) writeContent(ctx context.Context) error {
	runs := slices.Clone(w.plan.runs)
	slices.SortStableFunc(runs, func(a, b *run) int {
		if big := cmp.Compare(b.content.Size/pipelined, a.content.Size/pipelined); big != 0 {
			return big
		}
		return cmp.Or(cmp.Compare(a.content.File, b.content.File), cmp.Compare(a.content.Offset, b.content.Offset))
	})
	for _, r := range runs {
		w.files.expect(r.content.File)
	}
	group, ctx := errgroup.WithContext(ctx)
	queue := make(chan *run)
	group.Go(func() error {
		defer close(queue)
		for _, r := range runs {
			select {
			case queue <- r:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range w.plan.opts.workers() {
		group.Go(func() error {
			for r := range queue {
				if err := w.copyRun(ctx, r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// copyRun reads one run from beginning to end and verifies it on the way.
func (w *writer) copyRun(ctx context.Context, r *run) error {
	src, err := w.files.open(r.content)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return r.corrupt("the file is missing")
		}
		return fmt.Errorf("%s: %w", r.inodes[0].node.Path, err)
	}
	defer w.files.done(r.content.File)
	sum := sha256.New()
	var behind errgroup.Group // blocks of a large file being hashed and written
	behind.SetLimit(2)
	fail := func(err error) error { _ = behind.Wait(); return err }
	for pos := int64(0); pos < r.content.Size; pos += chunkSize {
		if err := ctx.Err(); err != nil {
			return fail(err)
		}
		buf := w.buffers.Get().(*[]byte)
		n := int(min(chunkSize, r.content.Size-pos))
		if got, err := src.ReadAt((*buf)[:n], r.content.Offset+pos); got < n {
			if err == io.EOF {
				return fail(r.corrupt(fmt.Sprintf("it ends after %d of %d bytes", pos+int64(got), r.content.Size)))
			}
			return fail(fmt.Errorf("%s: %w", r.inodes[0].node.Path, err))
		}
		if r.content.Size < pipelined {
			sum.Write((*buf)[:n])
			err = w.store(r, pos, *buf, n)
			w.buffers.Put(buf)
			if err != nil {
				return err
			}
			continue
		}
		hashed := make(chan struct{})
		behind.Go(func() error {
			err := w.store(r, pos, *buf, n)
			<-hashed
			w.buffers.Put(buf)
			return err
		})
		sum.Write((*buf)[:n])
		close(hashed)
	}
	if err := behind.Wait(); err != nil {
		return err
	}
	if got := [32]byte(sum.Sum(nil)); got != r.content.SHA256 {
		return r.corrupt(fmt.Sprintf("its SHA-256 is %x, recorded %x", got, r.content.SHA256))
	}
	return nil
}

// store puts the n bytes at pos of the run's content into the image: whole blocks into
// the data area, an inline tail beside each inode. Only the chunk's last block may be
// partial, and nothing but padding is written behind it.
func (w *writer) store(r *run, pos int64, buf []byte, n int) error {
	end := n
	if last := pos+int64(n) == r.content.Size; last {
		if tail := r.inodes[0].tail; tail > 0 {
			end -= tail
		}
		for _, i := range r.inodes {
			copy(w.meta[i.tailOffset():], buf[n-i.tail:n])
		}
	}
	if task := w.plan.opts.Task; task != nil {
		task.Add(int64(n))
	}
	if end == 0 {
		return nil
	}
	padded := (end + BlockSize - 1) / BlockSize * BlockSize
	if end == n { // otherwise end is a multiple of the block size already
		clear(buf[n:padded])
	}
	first := int64(r.firstBlock) + pos/BlockSize
	w.leaves.hash(uint32(first), buf[:padded])
	_, err := w.data.WriteAt(buf[:padded], first*BlockSize)
	return err
}

// writeMetadata writes inodes, directories and links, then the superblock.
func (w *writer) writeMetadata() error {
	for _, i := range w.plan.inodes {
		i.encode(w.meta)
		var b []byte
		switch i.node.Kind {
		case tree.Directory:
			b = encodeDirectory(i.entries())
		case tree.Symlink:
			b = []byte(i.node.Target)
		default:
			continue
		}
		whole := len(b) - i.tail
		copy(w.meta[i.tailOffset():], b[whole:])
		if whole == 0 {
			continue
		}
		blocks := make([]byte, i.blocksOf()*BlockSize)
		copy(blocks, b[:whole])
		w.leaves.hash(i.firstBlock, blocks)
		if _, err := w.data.WriteAt(blocks, int64(i.firstBlock)*BlockSize); err != nil {
			return err
		}
	}
	w.plan.encodeSuper(w.meta)
	w.leaves.hashAll(0, w.meta)
	_, err := w.data.WriteAt(w.meta, 0)
	return err
}

func (r *run) corrupt(reason string) error {
	return &CorruptError{Path: r.inodes[0].node.Path, File: r.content.File, Offset: r.content.Offset, Reason: reason}
}

// SPDX-License-Identifier: Apache-2.0

package fat

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf16"
)

// ErrCorrupt reports a volume whose structures contradict each other.
var ErrCorrupt = errors.New("damaged FAT32 file system")

// The limits a reader sets to what it believes.
const (
	maxDepth     = 16
	maxEntries   = 10000
	maxDirectory = 2 << 20 // the specification's limit
)

// Volume is a file system opened for reading.
type Volume struct {
	Geometry
	Label string
	ID    uint32

	r   io.ReaderAt
	fat []byte
}

// Entry is a file or directory of a volume.
type Entry struct {
	Path string // slash separated, without a leading slash
	Dir  bool
	Size int64
	Time time.Time

	first uint32
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// Open reads the boot sector and the allocation tables of a volume of size bytes.
func Open(r io.ReaderAt, size int64) (*Volume, error) {
	boot := make([]byte, 512)
	if _, err := r.ReadAt(boot, 0); err != nil {
		return nil, fmt.Errorf("boot sector: %w", err)
	}
	le := binary.LittleEndian
	v := &Volume{r: r, ID: le.Uint32(boot[67:]), Label: strings.TrimRight(string(boot[71:82]), " ")}
	v.SectorSize, v.SectorsPerCluster = int(le.Uint16(boot[11:])), int(boot[13])
	v.Reserved, v.FATSectors = int(le.Uint16(boot[14:])), int(le.Uint32(boot[36:]))
	v.Sectors = int64(le.Uint32(boot[32:]))
	switch spc := v.SectorsPerCluster; {
	case boot[510] != 0x55 || boot[511] != 0xaa:
		return nil, corrupt("the boot sector has no signature")
	case v.SectorSize != 512 && v.SectorSize != 4096:
		return nil, corrupt("sector size %d", v.SectorSize)
	case spc == 0 || spc&(spc-1) != 0:
		return nil, corrupt("%d sectors per cluster", spc)
	case boot[16] != 2 || v.Reserved == 0:
		return nil, corrupt("%d tables behind %d reserved sectors", boot[16], v.Reserved)
	case v.Sectors*int64(v.SectorSize) > size:
		return nil, corrupt("%d sectors of %d bytes on a partition of %d bytes", v.Sectors, v.SectorSize, size)
	}
	v.Clusters = (v.Sectors - int64(v.Reserved) - 2*int64(v.FATSectors)) / int64(v.SectorsPerCluster)
	if room := int64(v.FATSectors)*int64(v.SectorSize)/4 - 2; v.Clusters < minClusters || v.Clusters > room {
		return nil, corrupt("%d clusters, allocation tables for %d", v.Clusters, room)
	}
	v.fat = make([]byte, 4*(v.Clusters+2))
	second := make([]byte, len(v.fat))
	for k, b := range [][]byte{v.fat, second} {
		if _, err := r.ReadAt(b, v.fatOffset(k)); err != nil {
			return nil, fmt.Errorf("allocation table %d: %w", k+1, err)
		}
	}
	if !bytes.Equal(v.fat, second) {
		return nil, corrupt("the two allocation tables differ")
	}
	return v, nil
}

// Entries returns everything on the volume, directories before what they hold.
func (v *Volume) Entries() ([]Entry, error) {
	var out []Entry
	return out, v.walk("", 2, 0, &out)
}

func (v *Volume) walk(dir string, first uint32, depth int, out *[]Entry) error {
	if depth > maxDepth {
		return corrupt("%s: directories nested deeper than %d", dir, maxDepth)
	}
	chain, err := v.chain(first, maxDirectory)
	if err != nil {
		return fmt.Errorf("directory %q: %w", dir, err)
	}
	data, err := io.ReadAll(chain)
	if err != nil {
		return err
	}
	var long []uint16
	for ; len(data) >= entrySize && data[0] != 0; data = data[entrySize:] {
		rec := data[:entrySize]
		if rec[11]&0x3f == attrLongName {
			long = collectLong(rec, long)
			continue
		}
		name := shortText(rec)
		if sum := checksum([11]byte(rec[:11])); len(long) > 1 && long[0] == uint16(sum) {
			name = string(utf16.Decode(long[1:]))
		}
		long = nil
		if rec[0] == 0xe5 || rec[11]&attrVolume != 0 || rec[0] == '.' {
			continue
		}
		e := v.entry(rec, strings.TrimPrefix(dir+"/"+name, "/"))
		if *out = append(*out, e); len(*out) > maxEntries {
			return corrupt("more than %d files", maxEntries)
		}
		if e.Dir {
			if err := v.walk(e.Path, e.first, depth+1, out); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *Volume) entry(rec []byte, path string) Entry {
	le := binary.LittleEndian
	day, second := int(le.Uint16(rec[24:])), int(le.Uint16(rec[22:]))
	return Entry{
		Path:  path,
		Dir:   rec[11]&attrDirectory != 0,
		Size:  int64(le.Uint32(rec[28:])),
		Time:  time.Date(1980+day>>9, time.Month(day>>5&15), day&31, second>>11, second>>5&63, second&31*2, 0, time.UTC),
		first: uint32(le.Uint16(rec[20:]))<<16 | uint32(le.Uint16(rec[26:])),
	}
}

// collectLong puts the units of a long name record before those of the records already
// seen, which held later parts. The first element is the checksum that ties them to the
// short record that must follow.
func collectLong(rec []byte, later []uint16) []uint16 {
	out := []uint16{uint16(rec[13])}
	if rec[0]&0x40 != 0 || len(later) > 0 && later[0] != out[0] || len(later) > 256 {
		later = nil
	}
	for _, at := range longPositions {
		unit := binary.LittleEndian.Uint16(rec[at:])
		if unit == 0 {
			break
		}
		out = append(out, unit)
	}
	if len(later) > 0 {
		out = append(out, later[1:]...)
	}
	return out
}

func shortText(rec []byte) string {
	base := strings.TrimRight(string(rec[:8]), " ")
	if ext := strings.TrimRight(string(rec[8:11]), " "); ext != "" {
		return base + "." + ext
	}
	return base
}

// Open returns the content of a file.
func (v *Volume) Open(e Entry) (*io.SectionReader, error) {
	if e.Dir {
		return nil, fmt.Errorf("%s is a directory", e.Path)
	}
	if e.Size == 0 {
		return io.NewSectionReader(v.r, 0, 0), nil
	}
	chain, err := v.chain(e.first, e.Size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.Path, err)
	}
	if chain.Size() < e.Size {
		return nil, fmt.Errorf("%s: %w", e.Path, corrupt("its clusters hold %d of %d bytes", chain.Size(), e.Size))
	}
	return io.NewSectionReader(chain, 0, e.Size), nil
}

// chain returns the bytes of a cluster chain, which may not be much longer than limit.
func (v *Volume) chain(first uint32, limit int64) (*io.SectionReader, error) {
	var c clusters
	c.v = v
	for n := int64(first); ; {
		if n < 2 || n >= v.Clusters+2 {
			return nil, corrupt("cluster %d is outside the volume", n)
		}
		c.numbers = append(c.numbers, uint32(n))
		if int64(len(c.numbers)-1)*v.ClusterSize() >= limit {
			return nil, corrupt("the chain from cluster %d is longer than %d bytes", first, limit)
		}
		next := int64(binary.LittleEndian.Uint32(v.fat[4*n:]) & 0x0fffffff)
		if next >= 0x0ffffff8 {
			return io.NewSectionReader(c, 0, int64(len(c.numbers))*v.ClusterSize()), nil
		}
		n = next
	}
}

// clusters reads a chain of clusters as one run of bytes.
type clusters struct {
	v       *Volume
	numbers []uint32
}

func (c clusters) ReadAt(p []byte, off int64) (n int, err error) {
	size := c.v.ClusterSize()
	for n < len(p) {
		k := (off + int64(n)) / size
		if k >= int64(len(c.numbers)) {
			return n, io.EOF
		}
		// Neighbouring clusters are read together.
		last := k
		for last+1 < int64(len(c.numbers)) && c.numbers[last+1] == c.numbers[last]+1 && (last+1-k)*size < int64(len(p)-n)+size {
			last++
		}
		in := (off + int64(n)) % size
		want := min(int64(len(p)-n), (last-k+1)*size-in)
		got, err := c.v.r.ReadAt(p[n:int64(n)+want], c.v.clusterOffset(int64(c.numbers[k]))+in)
		n += got
		if int64(got) < want {
			return n, err
		}
	}
	return n, nil
}

// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/builder/fault"
)

func TestExtentProblems(t *testing.T) {
	const mib = Alignment
	total := int64(10 * mib)
	for _, c := range []struct {
		extents []extent
		want    []string
	}{
		{[]extent{{ESP, mib, mib}, {RootA, 2 * mib, 2 * mib}}, nil},
		{[]extent{{ESP, mib, 2 * mib}, {RootA, 2 * mib, mib}}, []string{"partitions esp and root-a overlap"}},
		{[]extent{{ESP, 2 * mib, mib}, {RootA, mib, 5 * mib}}, []string{"overlap"}},
		{[]extent{{ESP, 0, mib}}, []string{"outside the usable"}},
		{[]extent{{ESP, 9 * mib, mib}}, []string{"outside the usable"}},
		{[]extent{{ESP, 1 << 62, 1 << 62}}, []string{"outside the usable"}},
		{[]extent{{ESP, mib + 512, mib}, {RootA, 3 * mib, 100}}, []string{"esp: offset 1049088", "root-a: offset 3145728 and size 100"}},
		{[]extent{{ESP, mib, 0}}, []string{"outside the usable"}},
	} {
		err := checkExtents(c.extents, total, 512)
		if (err == nil) != (len(c.want) == 0) {
			t.Errorf("%v: error %v", c.extents, err)
		}
		for _, want := range c.want {
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%v: no %q in: %v", c.extents, want, err)
			}
		}
	}
}

func TestPlacesAreAlignedAndComplete(t *testing.T) {
	for _, l := range []Layout{{40 << 20, 24 << 20, 512}, {512 << 20, 768 << 20, 512}, {512 << 20, 3 << 30, 4096}} {
		extents, total, err := l.place()
		if err != nil {
			t.Fatal(err)
		}
		last := extents[len(extents)-1]
		if slack := total - last.Offset - last.Size; slack != Alignment {
			t.Errorf("%+v: %d bytes behind the last partition", l, slack)
		}
		for k, want := range []Slot{ESP, RootA, RootAVerity, RootB, RootBVerity} {
			if extents[k].Slot != want {
				t.Errorf("%+v: slot %d is %s", l, k, extents[k].Slot)
			}
		}
	}
}

func TestFullDisk(t *testing.T) {
	o := &output{final: t.TempDir() + "/image.raw", needs: 700 << 20}
	err := o.classify(fmt.Errorf("write: %w", unix.ENOSPC))
	if fault.ClassOf(err) != fault.NoSpace || !strings.Contains(err.Error(), "about 700 MiB") {
		t.Errorf("error %v", err)
	}
	if err := o.noSpace(5 << 20); fault.ClassOf(err) != fault.NoSpace || !strings.Contains(err.Error(), "5 MiB are free") {
		t.Errorf("error %v", err)
	}
	if err := o.classify(unix.EIO); fault.ClassOf(err) != fault.Unclassified {
		t.Errorf("error %v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package fat

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// writeBoot writes boot sector and FSInfo with their copies six sectors further. They
// come last, so that an interrupted volume has no signature.
func (v *volume) writeBoot(next int64) error {
	size := v.g.SectorSize
	boot, info := make([]byte, size), make([]byte, size)
	le := binary.LittleEndian
	copy(boot, []byte{0xeb, 0x58, 0x90}) // jump over the parameters
	copy(boot[3:], "imgbuild")
	le.PutUint16(boot[11:], uint16(size))
	boot[13] = uint8(v.g.SectorsPerCluster)
	le.PutUint16(boot[14:], uint16(v.g.Reserved))
	boot[16] = 2    // FATs
	boot[21] = 0xf8 // fixed disk
	le.PutUint16(boot[24:], 63)
	le.PutUint16(boot[26:], 255)
	le.PutUint32(boot[28:], v.opts.Hidden)
	le.PutUint32(boot[32:], uint32(v.g.Sectors))
	le.PutUint32(boot[36:], uint32(v.g.FATSectors))
	le.PutUint32(boot[44:], 2) // root directory
	le.PutUint16(boot[48:], 1) // FSInfo
	le.PutUint16(boot[50:], 6) // backup
	boot[64] = 0x80            // drive
	boot[66] = 0x29            // the next three fields are present
	le.PutUint32(boot[67:], v.opts.ID)
	name := label(v.opts.Label)
	if v.opts.Label == "" {
		name = [11]byte([]byte("NO NAME    "))
	}
	copy(boot[71:], name[:])
	copy(boot[82:], "FAT32   ")
	boot[510], boot[511] = 0x55, 0xaa

	le.PutUint32(info[0:], 0x41615252)
	le.PutUint32(info[484:], 0x61417272)
	le.PutUint32(info[488:], uint32(v.g.Clusters-(next-2)))
	le.PutUint32(info[492:], uint32(next))
	le.PutUint32(info[508:], 0xaa550000)
	if next-2 == v.g.Clusters {
		le.PutUint32(info[492:], 0xffffffff) // no free cluster to point at
	}
	for _, at := range []int64{6, 0} {
		if _, err := v.w.WriteAt(slices.Concat(boot, info), at*int64(size)); err != nil {
			return err
		}
	}
	return nil
}

func label(s string) [11]byte {
	out := [11]byte([]byte("           "))
	copy(out[:], s)
	return out
}

func checkLabel(s string) error {
	for _, c := range []byte(s) {
		if !(c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == ' ' || strings.IndexByte(shortSpecials, c) >= 0) {
			return fmt.Errorf("volume label %q: %q is not allowed", s, c)
		}
	}
	if len(s) > 11 {
		return fmt.Errorf("volume label %q has more than 11 characters", s)
	}
	return nil
}

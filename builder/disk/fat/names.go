// SPDX-License-Identifier: Apache-2.0

package fat

import (
	"fmt"
	"strings"
	"unicode/utf16"
)

const (
	shortSpecials = "$%'-_@~`!(){}^#&" // allowed in short names besides letters and digits
	longForbidden = `"*/:<>?\|`
	longPerEntry  = 13 // UTF-16 units in one long name record
)

// shortName returns the padded 11 bytes of a name that fits 8.3 exactly as written.
func shortName(name string) ([11]byte, bool) {
	out := [11]byte([]byte("           "))
	base, ext, dot := strings.Cut(name, ".")
	if base == "" || len(base) > 8 || len(ext) > 3 || dot && ext == "" {
		return out, false
	}
	for _, c := range []byte(base + ext) {
		if !(c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(shortSpecials, c) >= 0) {
			return out, false
		}
	}
	copy(out[:8], base)
	copy(out[8:], ext)
	return out, true
}

// alias returns an 8.3 name for one that does not fit, in the form "BASE~N", different
// from those already taken in its directory.
func alias(name string, taken map[[11]byte]bool) [11]byte {
	keep := func(s string, n int) string {
		var b strings.Builder
		for _, r := range strings.ToUpper(s) {
			if b.Len() == n {
				break
			}
			if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
				b.WriteRune(r)
			} else if r != '.' && r != ' ' {
				b.WriteByte('_')
			}
		}
		return b.String()
	}
	base, ext := name, ""
	if k := strings.LastIndexByte(name, '.'); k > 0 {
		base, ext = name[:k], name[k+1:]
	}
	for n := 1; ; n++ {
		number := fmt.Sprintf("~%d", n)
		out := [11]byte([]byte("           "))
		copy(out[:8], keep(base, 8-len(number))+number)
		copy(out[8:], keep(ext, 3))
		if !taken[out] {
			return out
		}
	}
}

// checksum ties long name records to their short name.
func checksum(short [11]byte) (sum uint8) {
	for _, c := range short {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}

// checkName refuses what a long name cannot hold.
func checkName(name string) error {
	units := utf16.Encode([]rune(name))
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%q is not a file name", name)
	case len(units) > 255:
		return fmt.Errorf("%q has %d UTF-16 units, at most 255 are allowed", name, len(units))
	case strings.HasSuffix(name, ".") || strings.HasSuffix(name, " "):
		return fmt.Errorf("%q ends in a dot or a space", name)
	}
	for _, r := range name {
		if r < ' ' || r == 0xfffd || strings.ContainsRune(longForbidden, r) {
			return fmt.Errorf("%q contains %q, which FAT does not allow", name, r)
		}
	}
	return nil
}

// longRecords returns the records that precede the short one, last part first.
func longRecords(name string, short [11]byte) []byte {
	units := utf16.Encode([]rune(name))
	count := (len(units) + longPerEntry - 1) / longPerEntry
	out := make([]byte, 0, count*entrySize)
	for k := count; k > 0; k-- {
		rec := make([]byte, entrySize)
		rec[0] = uint8(k)
		if k == count {
			rec[0] |= 0x40
		}
		rec[11] = attrLongName
		rec[13] = checksum(short)
		for j := range longPerEntry {
			unit := uint16(0xffff)
			switch at := (k-1)*longPerEntry + j; {
			case at < len(units):
				unit = units[at]
			case at == len(units):
				unit = 0
			}
			at := longPositions[j]
			rec[at], rec[at+1] = byte(unit), byte(unit>>8)
		}
		out = append(out, rec...)
	}
	return out
}

// longPositions are the offsets of the 13 units in a long name record.
var longPositions = [longPerEntry]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30}

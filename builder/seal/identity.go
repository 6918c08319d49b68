// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/imgbuild/imgbuild/builder/tree"
)

// Digest is a SHA-256 value; its text is lower-case hexadecimal.
type Digest [sha256.Size]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText writes the hexadecimal form.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (d *Digest) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(d) {
		return fmt.Errorf("%q is not a SHA-256 digest: want %d hexadecimal digits", text, 2*len(d))
	}
	copy(d[:], b)
	return nil
}

// UUID is an RFC 9562 identifier in the order its text form is written in.
type UUID [16]byte

func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// MarshalText writes the usual 8-4-4-4-12 form.
func (u UUID) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText reads the 8-4-4-4-12 form.
func (u *UUID) UnmarshalText(text []byte) error {
	s := string(text)
	bad := fmt.Errorf("%q is not a UUID: want the form 01234567-89ab-cdef-0123-456789abcdef", s)
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return bad
	}
	b, err := hex.DecodeString(s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:])
	if err != nil {
		return bad
	}
	copy(u[:], b)
	return nil
}

// DeriveUUID returns the UUID that belongs to purpose for something identified by id. It
// is of version 8 (RFC 9562, section 5.8): the bits are ours, taken from a SHA-256.
func DeriveUUID(purpose string, id []byte) UUID {
	sum := derive(purpose, id)
	u := UUID(sum[:16])
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return u
}

func derive(purpose string, id []byte) Digest {
	h := sha256.New()
	h.Write([]byte(purpose))
	h.Write([]byte{0})
	h.Write(id)
	return Digest(h.Sum(nil))
}

// PartitionUUIDs splits a root hash into the UUIDs of the partition it protects and of
// the one that holds the hash tree.
func PartitionUUIDs(root Digest) (data, hash UUID) {
	return UUID(root[:16]), UUID(root[16:])
}

// identify returns a digest over everything that decides the bytes of the image: each
// node's metadata, its content's digest and the timestamp. Every field has a length or a
// fixed width, so no two different trees share an encoding.
func identify(nodes []*tree.Node, opts Options) Digest {
	h := sha256.New()
	var buf []byte
	num := func(v uint64) { buf = binary.LittleEndian.AppendUint64(buf, v) }
	str := func(s string) { num(uint64(len(s))); buf = append(buf, s...) }
	str("imgbuild sealed root 1")
	num(uint64(opts.Timestamp))
	str(opts.Volume)
	for _, n := range nodes {
		str(n.Path)
		num(uint64(n.Kind)<<32 | uint64(n.Mode))
		num(uint64(n.UID)<<32 | uint64(n.GID))
		num(uint64(n.Major)<<32 | uint64(n.Minor))
		str(n.Target)
		num(uint64(len(n.Xattrs)))
		for _, name := range slices.Sorted(maps.Keys(n.Xattrs)) {
			str(name)
			str(string(n.Xattrs[name]))
		}
		if n.Kind == tree.Regular {
			num(uint64(n.Content.Size))
			buf = append(buf, n.Content.SHA256[:]...)
		}
		h.Write(buf)
		buf = buf[:0]
	}
	return Digest(h.Sum(nil))
}

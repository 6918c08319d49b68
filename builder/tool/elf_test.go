// SPDX-License-Identifier: Apache-2.0

package tool

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// object describes a small ELF file: nothing that runs, but all that a loader's user looks
// at. It lets the tests say exactly which libraries a program wants.
type object struct {
	machine elf.Machine // this machine's by default
	interp  string
	needed  []string
	runpath string
}

// encode writes the object as a 64-bit little-endian ELF file (System V ABI, chapter 4).
func (o object) encode(t testing.TB) []byte {
	t.Helper()
	if o.machine == 0 {
		o.machine = platforms[runtime.GOARCH].machine
	}
	names := []byte{0}
	str := func(s string) uint64 {
		at := len(names)
		names = append(append(names, s...), 0)
		return uint64(at)
	}
	var dyn []elf.Dyn64
	for _, n := range o.needed {
		dyn = append(dyn, elf.Dyn64{Tag: int64(elf.DT_NEEDED), Val: str(n)})
	}
	if o.runpath != "" {
		dyn = append(dyn, elf.Dyn64{Tag: int64(elf.DT_RUNPATH), Val: str(o.runpath)})
	}
	dyn = append(dyn, elf.Dyn64{})

	const header, prog, section = 64, 56, 64
	interp := append([]byte(o.interp), 0)
	interpAt := uint64(header + prog)
	dynAt := interpAt + uint64(len(interp)+15)&^7
	dynSize := uint64(len(dyn) * 16)
	strAt := dynAt + dynSize
	shAt := (strAt + uint64(len(names)) + 7) &^ 7

	h := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(o.machine), Version: 1, Ehsize: header, Phoff: header, Phentsize: prog,
		Shoff: shAt, Shentsize: section, Shnum: 3, Shstrndx: 0,
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	if o.interp != "" {
		h.Phnum = 1
	}
	var b bytes.Buffer
	put := func(v any) {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	pad := func(to uint64) { b.Write(make([]byte, to-uint64(b.Len()))) }
	put(h)
	put(elf.Prog64{Type: uint32(elf.PT_INTERP), Off: interpAt, Filesz: uint64(len(interp)), Memsz: uint64(len(interp))})
	b.Write(interp)
	pad(dynAt)
	put(dyn)
	b.Write(names)
	pad(shAt)
	put(elf.Section64{})
	put(elf.Section64{Type: uint32(elf.SHT_DYNAMIC), Off: dynAt, Size: dynSize, Link: 2, Entsize: 16})
	put(elf.Section64{Type: uint32(elf.SHT_STRTAB), Off: strAt, Size: uint64(len(names))})
	return b.Bytes()
}

// place writes the object into a set.
func (o object) place(t testing.TB, root, name string) {
	t.Helper()
	place(t, root, name, o.encode(t))
}

func place(t testing.TB, root, name string, data []byte) {
	t.Helper()
	p := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

func link(t testing.TB, root, name, target string) {
	t.Helper()
	p := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, p); err != nil {
		t.Fatal(err)
	}
}

func FuzzInspect(f *testing.F) {
	f.Add(object{interp: "/lib/ld.so", needed: []string{"liba.so"}, runpath: "$ORIGIN/x:/usr/lib/y"}.encode(f))
	f.Add([]byte("#!/bin/sh\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		root := t.TempDir()
		place(t, root, "usr/bin/p", data)
		l, err := New(root).launch("p")
		if err == nil && l.loader != "" {
			t.Errorf("found loader %s in a set without one", l.loader)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package buildtest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/seal/referee"
)

// Module returns a kernel module that exports nothing, depends on nothing and handles one
// made-up PCI device: enough for depmod to index it.
func Module(t testing.TB, name string) string {
	t.Helper()
	info := "name=" + name + "\x00license=GPL\x00depends=\x00alias=pci:v0000F00Dd*sv*sd*bc*sc*i*\x00vermagic=" + Release + " SMP \x00"
	names := "\x00.modinfo\x00.symtab\x00.strtab\x00.shstrtab\x00"
	at := func(s string) uint32 { return uint32(strings.Index(names, s+"\x00")) }
	const header, section, symbol = 64, 64, 24
	var body bytes.Buffer
	place := func(data []byte) (offset, size uint64) {
		for body.Len()%8 != 0 {
			body.WriteByte(0)
		}
		offset, size = header+uint64(body.Len()), uint64(len(data))
		body.Write(data)
		return offset, size
	}
	sections := []elf.Section64{{}}
	add := func(s elf.Section64, name string, data []byte) {
		s.Name, s.Addralign = at(name), max(s.Addralign, 1)
		s.Off, s.Size = place(data)
		sections = append(sections, s)
	}
	add(elf.Section64{Type: uint32(elf.SHT_PROGBITS), Flags: uint64(elf.SHF_ALLOC)}, ".modinfo", []byte(info))
	add(elf.Section64{Type: uint32(elf.SHT_SYMTAB), Link: 3, Info: 1, Entsize: symbol, Addralign: 8}, ".symtab", make([]byte, symbol))
	add(elf.Section64{Type: uint32(elf.SHT_STRTAB)}, ".strtab", []byte{0})
	add(elf.Section64{Type: uint32(elf.SHT_STRTAB)}, ".shstrtab", []byte(names))
	for body.Len()%8 != 0 {
		body.WriteByte(0)
	}
	h := elf.Header64{Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: header,
		Shoff: header + uint64(body.Len()), Shentsize: section, Shnum: uint16(len(sections)), Shstrndx: 4}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	var out bytes.Buffer
	for _, v := range []any{h, body.Bytes(), sections} {
		if err := binary.Write(&out, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// Kmod returns the files of kmod with every library it needs, from the locked packages that
// IMGBUILD_TEST_TOOLS names or else from this machine. The test is skipped when neither has
// the program.
func Kmod(t testing.TB) []File {
	t.Helper()
	root := os.Getenv(referee.Variable)
	if root == "" {
		root = "/"
	}
	program := filepath.Join(root, "usr/bin/kmod")
	if _, err := os.Stat(program); err != nil {
		if root != "/" {
			t.Fatalf("%v; the tool set tool/verify must hold kmod", err)
		}
		t.Skipf("%v and %s is not set; make test provides it", err, referee.Variable)
	}
	files := []File{
		{Path: "/usr/bin/kmod", Content: read(t, program), Mode: 0o755},
		{Path: "/usr/sbin/depmod", Link: "../bin/kmod"},
	}
	seen := map[string]bool{}
	for queue := needed(t, files[0].Content); len(queue) > 0; queue = queue[1:] {
		lib := "/usr/lib/x86_64-linux-gnu/" + filepath.Base(queue[0])
		if strings.HasPrefix(queue[0], "/lib64/") && !seen[queue[0]] { // the loader, where programs look for it
			seen[queue[0]] = true
			files = append(files, File{Path: "/usr" + queue[0], Link: "../lib/x86_64-linux-gnu/" + filepath.Base(lib)})
		}
		if seen[lib] {
			continue
		}
		seen[lib] = true
		f := File{Path: lib, Content: read(t, filepath.Join(root, lib)), Mode: 0o755}
		files = append(files, f)
		queue = append(queue, needed(t, f.Content)...)
	}
	return files
}

// needed returns the libraries and the loader that an ELF file names.
func needed(t testing.TB, content string) []string {
	t.Helper()
	f, err := elf.NewFile(strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	names, err := f.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			data := make([]byte, p.Filesz)
			if _, err := p.ReadAt(data, 0); err != nil {
				t.Fatal(err)
			}
			names = append(names, strings.TrimRight(string(data), "\x00"))
		}
	}
	return names
}

func read(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/source/deb/debtest"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// section is a section of an ELF object.
type section struct {
	name   string
	header elf.Section64
	data   string
}

// object returns a relocatable ELF object of the sections, the first of which has index 1.
func object(t testing.TB, sections ...section) []byte {
	t.Helper()
	names := "\x00"
	for _, s := range sections {
		names += s.name + "\x00"
	}
	names += ".shstrtab\x00"
	sections = append(sections, section{".shstrtab", elf.Section64{Type: uint32(elf.SHT_STRTAB)}, names})
	header := binary.Size(elf.Header64{})
	table, body := []elf.Section64{{}}, ""
	for _, s := range sections {
		body += strings.Repeat("\x00", -len(body)&7)
		s.header.Name, s.header.Addralign = uint32(strings.Index(names, "\x00"+s.name+"\x00")+1), 8
		s.header.Off, s.header.Size = uint64(header+len(body)), uint64(len(s.data))
		table, body = append(table, s.header), body+s.data
	}
	body += strings.Repeat("\x00", -len(body)&7)
	h := elf.Header64{Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: uint16(header),
		Shentsize: uint16(binary.Size(elf.Section64{})), Shnum: uint16(len(table)), Shstrndx: uint16(len(table) - 1), Shoff: uint64(header + len(body))}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	var b bytes.Buffer
	for _, v := range []any{h, []byte(body), table} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func modinfo(info ...string) section {
	return section{".modinfo", elf.Section64{Type: uint32(elf.SHT_PROGBITS)}, strings.Join(info, "\x00") + "\x00"}
}

// module returns an ELF object that holds nothing but a .modinfo section.
func module(t testing.TB, info ...string) []byte {
	t.Helper()
	return object(t, modinfo(info...))
}

const release = "6.1.0-test"

// kernel is a kernel package: modules by path below kernel/, with their .modinfo.
func kernel(t testing.TB, modules map[string][]string) *tree.Tree {
	t.Helper()
	out := tree.New()
	put := func(p string, data []byte) {
		n := tree.Node{Path: Root + "/" + release + "/" + p, Kind: tree.Regular, Mode: 0o644, Content: tree.Bytes(data), Origin: "deb:linux"}
		if err := out.Put(n); err != nil {
			t.Fatal(err)
		}
	}
	put("modules.builtin", []byte("kernel/drivers/base/built-in.ko\nkernel/lib/crc.ko\n"))
	put("modules.order", []byte("kernel/fs/big.ko.xz\n"))
	for p, info := range modules {
		data := module(t, info...)
		if strings.HasSuffix(p, ".xz") {
			data = debtest.XZ(t, data)
		}
		put("kernel/"+p, data)
	}
	return out
}

var modules = map[string][]string{
	"fs/big.ko.xz":         {"license=GPL", "depends=helper-lib,crc", "softdep=pre: quick post: absent"},
	"lib/helper-lib.ko.xz": {"depends="},
	"lib/quick.ko":         {"depends=deeper"},
	"lib/deeper.ko.xz":     {},
	"net/other.ko.xz":      {"depends=deeper"},
	"sound/noise.ko.xz":    {},
}

func TestExtractTakesWhatTheGlobsNeed(t *testing.T) {
	for name, c := range map[string]struct {
		globs []string
		want  string
	}{
		"dependencies":     {[]string{"fs/big"}, "kernel/fs/big.ko kernel/lib/deeper.ko kernel/lib/helper-lib.ko kernel/lib/quick.ko"},
		"directory":        {[]string{"net/**"}, "kernel/lib/deeper.ko kernel/net/other.ko"},
		"alternatives":     {[]string{"{net,sound}/*"}, "kernel/lib/deeper.ko kernel/net/other.ko kernel/sound/noise.ko"},
		"built in is fine": {[]string{"drivers/base/built-in", "sound/noise"}, "kernel/sound/noise.ko"},
	} {
		t.Run(name, func(t *testing.T) {
			x, err := Extract(kernel(t, modules), Selection{Modules: c.globs}, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(x.Modules, " "); got != c.want {
				t.Errorf("modules %s, want %s", got, c.want)
			}
			out, err := x.Tree()
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range x.Modules {
				n := out.Lookup(Root + "/" + release + "/" + m)
				if n == nil {
					t.Fatalf("%s is not in the tree", m)
				}
				if data, err := n.Content.ReadAll(); err != nil || !bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
					t.Errorf("%s: not decompressed (%v)", m, err)
				}
			}
		})
	}
}

func TestExtractRefuses(t *testing.T) {
	broken := kernel(t, modules)
	if err := broken.Put(tree.Node{Path: Root + "/" + release + "/kernel/fs/bad.ko", Kind: tree.Regular, Content: tree.Bytes(module(t, "depends=nowhere"))}); err != nil {
		t.Fatal(err)
	}
	two := kernel(t, modules)
	if err := two.Put(tree.Node{Path: Root + "/other/x", Kind: tree.Regular}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		tree  *tree.Tree
		globs []string
		want  string
	}{
		"unknown globs":      {kernel(t, modules), []string{"fs/typo", "net/also-typo"}, `module glob "net/also-typo" matches no module`},
		"missing dependency": {broken, []string{"fs/bad"}, "depends on nowhere"},
		"two kernels":        {two, []string{"fs/big"}, "found 2"},
		"no kernel":          {tree.New(), nil, "found 0"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Extract(c.tree, Selection{Modules: c.globs}, t.TempDir()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestDecompressedModulesAreUsedAgain(t *testing.T) {
	k := kernel(t, modules)
	x, err := Extract(k, Selection{Modules: []string{"fs/big"}}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	extracted, err := x.Tree()
	if err != nil {
		t.Fatal(err)
	}
	both, err := Decompressed(k, extracted)
	if err != nil {
		t.Fatal(err)
	}
	base := Root + "/" + release + "/kernel/"
	for p, want := range map[string]bool{base + "fs/big.ko": true, base + "fs/big.ko.xz": false, base + "net/other.ko.xz": true} {
		if got := both.Lookup(p) != nil; got != want {
			t.Errorf("%s present: %v, want %v", p, got, want)
		}
	}
	again, err := Extract(both, Selection{Modules: []string{"fs/big", "net/other"}}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Modules) != 5 {
		t.Errorf("modules %v", again.Modules)
	}
}

func TestIndexFailureSaysWhatRan(t *testing.T) {
	x := &Extraction{Dir: t.TempDir(), Release: release}
	err := x.Index(context.Background(), func(ctx context.Context, args ...string) (*exec.Cmd, error) {
		if want := []string{"-b", x.Dir, release}; !slices.Equal(args, want) {
			t.Errorf("arguments %v, want %v", args, want)
		}
		return exec.CommandContext(ctx, filepath.Join(x.Dir, "no-depmod"), args...), nil
	})
	if err == nil || !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "no-depmod -b") {
		t.Errorf("error %v", err)
	}
}

func TestParseInfoRefusesOtherFiles(t *testing.T) {
	if _, err := ParseInfo([]byte("not an object")); err == nil {
		t.Error("no error for text")
	}
	plain := bytes.Replace(module(t, "depends=a"), []byte(".modinfo"), []byte(".comment"), 1)
	if _, err := ParseInfo(plain); err == nil || !strings.Contains(err.Error(), "no .modinfo section") {
		t.Errorf("error %v", err)
	}
}

func FuzzParseInfo(f *testing.F) {
	f.Add(module(f, "depends=a,b", "softdep=pre: c"))
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := ParseInfo(data)
		if err != nil {
			return
		}
		for _, d := range info.Depends {
			if d == "" || strings.ContainsAny(d, ",-") {
				t.Errorf("dependency %q", d)
			}
		}
	})
}

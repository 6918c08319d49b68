// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/seal/referee"
	"github.com/imgbuild/imgbuild/builder/source/deb/debtest"
	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/builder/tree"
)

const unpacks = "CONFIG_MODULES=y\nCONFIG_MODULE_COMPRESS_XZ=y\nCONFIG_MODULE_DECOMPRESS=y\n"

// configured is kernel with the configuration of the kernel.
func configured(t testing.TB, config string, modules map[string][]string) *tree.Tree {
	t.Helper()
	out := kernel(t, modules)
	put(t, out, "/boot/config-"+release, []byte(config))
	return out
}

func put(t testing.TB, to *tree.Tree, p string, data []byte) {
	t.Helper()
	if err := to.Put(tree.Node{Path: p, Kind: tree.Regular, Mode: 0o644, Content: tree.Bytes(data), Origin: "deb:linux"}); err != nil {
		t.Fatal(err)
	}
}

func TestExtractKeepsCompression(t *testing.T) {
	for name, c := range map[string]struct {
		compressed []string
		want       string
	}{
		"none":           {nil, "kernel/fs/big.ko kernel/lib/deeper.ko kernel/lib/helper-lib.ko kernel/lib/quick.ko"},
		"one":            {[]string{"fs/*"}, "kernel/fs/big.ko.xz kernel/lib/deeper.ko kernel/lib/helper-lib.ko kernel/lib/quick.ko"},
		"dependency":     {[]string{"lib/helper-lib"}, "kernel/fs/big.ko kernel/lib/deeper.ko kernel/lib/helper-lib.ko.xz kernel/lib/quick.ko"},
		"shipped plain":  {[]string{"lib/*"}, "kernel/fs/big.ko kernel/lib/deeper.ko.xz kernel/lib/helper-lib.ko.xz kernel/lib/quick.ko"},
		"matched by two": {[]string{"**", "fs/big"}, "kernel/fs/big.ko.xz kernel/lib/deeper.ko.xz kernel/lib/helper-lib.ko.xz kernel/lib/quick.ko"},
	} {
		t.Run(name, func(t *testing.T) {
			x, err := Extract(configured(t, unpacks, modules), Selection{Modules: []string{"fs/big"}, Compressed: c.compressed}, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(x.Modules, " "); got != c.want {
				t.Errorf("modules %s, want %s", got, c.want)
			}
		})
	}
}

func TestExtractRefusesCompression(t *testing.T) {
	for name, c := range map[string]struct {
		tree       *tree.Tree
		compressed []string
		want       []string
	}{
		"nothing selected": {configured(t, unpacks, modules), []string{"fs/*", "sound/*", "typo"}, []string{`glob "sound/*" matches no compressed module`, `glob "typo" matches no compressed module`}},
		"shipped plain":    {configured(t, unpacks, modules), []string{"lib/quick"}, []string{`glob "lib/quick" matches no compressed module`}},
		"broken glob":      {configured(t, unpacks, modules), []string{"fs/[a"}, []string{`glob "fs/[a": syntax error`}},
		"no configuration": {kernel(t, modules), []string{"fs/*"}, []string{"/boot/config-6.1.0-test is missing"}},
		"kernel cannot":    {configured(t, strings.Replace(unpacks, "CONFIG_MODULE_DECOMPRESS=y", "# CONFIG_MODULE_DECOMPRESS is not set", 1), modules), []string{"fs/*"}, []string{"lacks CONFIG_MODULE_DECOMPRESS=y"}},
		"another format":   {configured(t, strings.Replace(unpacks, "XZ", "ZSTD", 1), modules), []string{"fs/*"}, []string{"lacks CONFIG_MODULE_COMPRESS_XZ=y"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Extract(c.tree, Selection{Modules: []string{"fs/big"}, Compressed: c.compressed}, t.TempDir())
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want one with %q", err, want)
				}
			}
		})
	}
}

// linked returns a module as depmod reads them: what it exports and what it needs are
// symbols, whatever .modinfo says.
func linked(t testing.TB, exports, needs string, info ...string) []byte {
	t.Helper()
	symbol := elf.Sym64{Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)}
	symbols, names := []elf.Sym64{{}}, "\x00"
	if needs != "" {
		symbol.Name = uint32(len(names))
		symbols, names = append(symbols, symbol), names+needs+"\x00"
	}
	var table bytes.Buffer
	if err := binary.Write(&table, binary.LittleEndian, symbols); err != nil {
		t.Fatal(err)
	}
	sections := []section{
		modinfo(info...),
		{".symtab", elf.Section64{Type: uint32(elf.SHT_SYMTAB), Link: 3, Info: 1, Entsize: uint64(binary.Size(elf.Sym64{}))}, table.String()},
		{".strtab", elf.Section64{Type: uint32(elf.SHT_STRTAB)}, names},
	}
	if exports != "" {
		sections = append(sections, section{"__ksymtab_strings", elf.Section64{Type: uint32(elf.SHT_PROGBITS)}, exports + "\x00"})
	}
	return object(t, sections...)
}

func depmod(t testing.TB) Depmod {
	t.Helper()
	if dir := os.Getenv(referee.Variable); dir != "" {
		return func(ctx context.Context, args ...string) (*exec.Cmd, error) {
			return tool.New(dir).Command(ctx, "depmod", args...)
		}
	}
	path, err := exec.LookPath("depmod")
	if err != nil {
		t.Skipf("depmod is not in PATH and %s is not set; make test provides it", referee.Variable)
	}
	return func(ctx context.Context, args ...string) (*exec.Cmd, error) {
		return exec.CommandContext(ctx, path, args...), nil
	}
}

// The index is made while the modules are still unpacked. depmod must make the same one of
// what is in the image.
func TestIndexOfCompressedModules(t *testing.T) {
	k := configured(t, unpacks, nil)
	base := Root + "/" + release + "/"
	shipped := map[string][]byte{
		"kernel/fs/disk.ko.xz":        debtest.XZ(t, linked(t, "", "helper_run", "depends=helper-lib", "alias=fs-disk")),
		"kernel/lib/helper-lib.ko.xz": debtest.XZ(t, linked(t, "helper_run", "", "depends=")),
		"kernel/net/fast.ko.xz":       debtest.XZ(t, linked(t, "", "helper_run", "depends=helper-lib", "alias=net-fast")),
	}
	for p, data := range shipped {
		put(t, k, base+p, data)
	}
	x, err := Extract(k, Selection{Modules: []string{"fs/*", "net/*"}, Compressed: []string{"{fs,lib}/*"}}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	index := func() map[string]string {
		t.Helper()
		if err := x.Index(t.Context(), depmod(t)); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(x.moduleDir(), "modules.*"))
		if err != nil || len(files) < 5 {
			t.Fatalf("index files %q, error %v", files, err)
		}
		out := map[string]string{}
		for _, f := range files {
			out[filepath.Base(f)] = string(read(t, f))
		}
		return out
	}
	first := index()
	for _, want := range []string{
		"kernel/fs/disk.ko.xz: kernel/lib/helper-lib.ko.xz\n", "kernel/lib/helper-lib.ko.xz:\n", "kernel/net/fast.ko: kernel/lib/helper-lib.ko.xz\n",
	} {
		if !strings.Contains(first["modules.dep"], want) {
			t.Errorf("modules.dep lacks %q:\n%s", want, first["modules.dep"])
		}
	}
	if !strings.Contains(first["modules.alias"], "alias fs-disk disk\n") {
		t.Errorf("modules.alias lacks that of a compressed module:\n%s", first["modules.alias"])
	}
	for _, p := range []string{"kernel/fs/disk.ko.xz", "kernel/lib/helper-lib.ko.xz"} {
		if !bytes.Equal(read(t, filepath.Join(x.moduleDir(), p)), shipped[p]) {
			t.Errorf("%s is not what the package ships", p)
		}
	}
	if data := read(t, filepath.Join(x.moduleDir(), "kernel/net/fast.ko")); !bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
		t.Error("kernel/net/fast.ko is not decompressed")
	}
	for name, again := range index() {
		if again != first[name] {
			t.Errorf("%s differs from that of the compressed modules:\n%s\nwant\n%s", name, first[name], again)
		}
	}
}

func read(t testing.TB, p string) []byte {
	t.Helper()
	data, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

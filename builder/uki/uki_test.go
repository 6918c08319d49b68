// SPDX-License-Identifier: Apache-2.0

package uki_test

import (
	"bytes"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/seal/referee"
	"github.com/imgbuild/imgbuild/builder/uki"
	"github.com/imgbuild/imgbuild/builder/uki/ukitest"
)

func spec(stub, kernel []byte) uki.Spec {
	return uki.Spec{
		Stub:        stub,
		OSRelease:   []byte("ID=imgbuild\nVERSION_ID=1\n"),
		CommandLine: "console=ttyS0 roothash=0123",
		Uname:       "6.12.48+deb13-amd64",
		Linux:       kernel,
		Initrd:      bytes.Repeat([]byte("initrd "), 5000),
	}
}

// referees: the standard library's reader and our own must see the same sections.
func checkImage(t *testing.T, s uki.Spec, out []byte) {
	t.Helper()
	f, err := pe.NewFile(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	own, err := uki.Parse(bytes.NewReader(out), int64(len(out)))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Sections) != len(own.Sections) {
		t.Errorf("%d sections, we read %d", len(f.Sections), len(own.Sections))
	}
	for name, want := range map[string][]byte{".osrel": s.OSRelease, ".cmdline": []byte(s.CommandLine), ".uname": []byte(s.Uname), ".initrd": s.Initrd, ".linux": s.Linux} {
		section := f.Section(name)
		if section == nil {
			t.Errorf("no section %s", name)
			continue
		}
		got, err := section.Data()
		if err != nil || int(section.VirtualSize) != len(want) || !bytes.Equal(got[:len(want)], want) {
			t.Errorf("%s: other content: %v", name, err)
		}
		r, err := own.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if mine, err := io.ReadAll(r); err != nil || !bytes.Equal(mine, want) {
			t.Errorf("%s: we read other content: %v", name, err)
		}
	}
	checkLayout(t, f, len(out))
}

// checkLayout verifies what firmware requires of an image.
func checkLayout(t *testing.T, f *pe.File, size int) {
	t.Helper()
	opt := f.OptionalHeader.(*pe.OptionalHeader64)
	address, offset := uint32(0), opt.SizeOfHeaders
	for _, s := range f.Sections {
		if s.VirtualAddress%opt.SectionAlignment != 0 || s.VirtualAddress < address {
			t.Errorf("%s: address %#x after %#x", s.Name, s.VirtualAddress, address)
		}
		if s.Offset%opt.FileAlignment != 0 || s.Size%opt.FileAlignment != 0 || s.Offset < offset {
			t.Errorf("%s: %d bytes at %d after %d", s.Name, s.Size, s.Offset, offset)
		}
		address, offset = s.VirtualAddress+s.VirtualSize, s.Offset+s.Size
	}
	if int(offset) != size {
		t.Errorf("sections end at %d, the file at %d", offset, size)
	}
	if want := (address + opt.SectionAlignment - 1) / opt.SectionAlignment * opt.SectionAlignment; opt.SizeOfImage != want {
		t.Errorf("size of image %#x, want %#x", opt.SizeOfImage, want)
	}
	if f.Sections[len(f.Sections)-1].Name != ".linux" {
		t.Error("the kernel is not the last section")
	}
}

func assemble(s uki.Spec) ([]byte, error) {
	pieces, err := uki.Assemble(s)
	return bytes.Join(pieces, nil), err
}

func TestAssemble(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		s := spec(ukitest.Stub(arch), ukitest.Stub(arch))
		out, err := assemble(s)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, s, out)
		again, err := assemble(s)
		if err != nil || !bytes.Equal(out, again) {
			t.Errorf("%s: a second time other bytes: %v", arch, err)
		}
		im, err := uki.Parse(bytes.NewReader(out), int64(len(out)))
		if err != nil || im.Architecture != arch {
			t.Errorf("architecture %q, want %s: %v", im.Architecture, arch, err)
		}
		if text, err := im.Text(".cmdline"); err != nil || text != s.CommandLine {
			t.Errorf("command line %q: %v", text, err)
		}
	}
}

func TestObjdumpAgrees(t *testing.T) {
	s := spec(ukitest.Stub("amd64"), ukitest.Stub("amd64"))
	out, err := assemble(s)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "node.efi")
	if err := os.WriteFile(path, out, 0o600); err != nil {
		t.Fatal(err)
	}
	dump := strings.Join(strings.Fields(referee.Must(t, "objdump", "-h", path)), " ")
	for name, size := range map[string]int{".osrel": len(s.OSRelease), ".cmdline": len(s.CommandLine), ".uname": len(s.Uname), ".initrd": len(s.Initrd), ".linux": len(s.Linux)} {
		if want := fmt.Sprintf("%s %08x", name, size); !strings.Contains(dump, want) {
			t.Errorf("no %q in: %s", want, dump)
		}
	}
}

func TestRealStub(t *testing.T) {
	stub := referee.File(t, "/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
	before := bytes.Clone(stub)
	s := spec(stub, stub)
	out, err := assemble(s)
	if err != nil {
		t.Fatal(err)
	}
	checkImage(t, s, out)
	if !bytes.Equal(stub, before) {
		t.Error("the stub was changed in place")
	}
	im, err := uki.Parse(bytes.NewReader(out), int64(len(out)))
	if err != nil {
		t.Fatal(err)
	}
	if sbat, err := im.Text(".sbat"); err != nil || !strings.Contains(sbat, "systemd-stub") {
		t.Errorf("the stub's .sbat is %q: %v", sbat, err)
	}
}

func TestNXCompatibility(t *testing.T) {
	for _, c := range []struct{ stub, kernel, want uint16 }{
		{0x0160, 0x0160, 0x0160},
		{0x0160, 0x0060, 0x0060},
		{0x0060, 0x0160, 0x0060},
	} {
		s := spec(ukitest.Program{Machine: 0x8664, Characteristics: c.stub}.Bytes(), ukitest.Program{Machine: 0x8664, Characteristics: c.kernel}.Bytes())
		out, err := assemble(s)
		if err != nil {
			t.Fatal(err)
		}
		f, err := pe.NewFile(bytes.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.OptionalHeader.(*pe.OptionalHeader64).DllCharacteristics; got != c.want {
			t.Errorf("stub %#x, kernel %#x: %#x, want %#x", c.stub, c.kernel, got, c.want)
		}
	}
}

func TestAssembleRefuses(t *testing.T) {
	amd, arm := ukitest.Stub("amd64"), ukitest.Stub("arm64")
	full, err := assemble(spec(amd, amd))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*uki.Spec)
		want   string
	}{
		{"no stub", func(s *uki.Spec) { s.Stub = nil }, "stub: not a valid EFI program"},
		{"kernel is no program", func(s *uki.Spec) { s.Linux = []byte("\x1f\x8b gzip") }, "kernel: not a valid EFI program"},
		{"other machine", func(s *uki.Spec) { s.Linux = arm }, "for amd64 but the kernel for \"arm64\""},
		{"unknown machine", func(s *uki.Spec) { s.Stub = ukitest.Program{Machine: 0x5064}.Bytes() }, "unknown machine"},
		{"signed stub", func(s *uki.Spec) { s.Stub = ukitest.Program{Machine: 0x8664, Signed: true}.Bytes() }, "signature"},
		{"assembled twice", func(s *uki.Spec) { s.Stub = full }, "already"},
		{"no room", func(s *uki.Spec) { s.Stub = ukitest.Program{Machine: 0x8664, HeaderSize: 512}.Bytes() }, "no room for 5 more section headers"},
		{"newline", func(s *uki.Spec) { s.CommandLine = "a\nb" }, "byte 1 is a control character"},
		{"not UTF-8", func(s *uki.Spec) { s.CommandLine = "a\xff" }, "byte 1"},
		{"empty", func(s *uki.Spec) { s.Initrd, s.Uname = nil, "" }, "initrd is empty"},
	} {
		s := spec(amd, amd)
		c.change(&s)
		if _, err := assemble(s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	out, err := assemble(spec(ukitest.Stub("amd64"), ukitest.Stub("amd64")))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(out)
	f.Add(ukitest.Stub("arm64"))
	f.Fuzz(func(t *testing.T, b []byte) {
		im, err := uki.Parse(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if !errors.Is(err, uki.ErrFormat) {
				t.Errorf("error of another kind: %v", err)
			}
			return
		}
		for _, s := range im.Sections {
			r, err := im.Open(s.Name)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, r); err != nil || n != im.Section(s.Name).Size {
				t.Errorf("%q: %d of %d bytes: %v", s.Name, n, s.Size, err)
			}
		}
		// Whatever passes as a stub must give an image that passes too.
		s := spec(b, b)
		if out, err := assemble(s); err == nil {
			if _, err := uki.Parse(bytes.NewReader(out), int64(len(out))); err != nil {
				t.Errorf("assembled an image that we refuse: %v", err)
			}
		}
	})
}

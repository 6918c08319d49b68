// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"crypto/sha256"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/imgbuild/imgbuild/builder/disk"
	"github.com/imgbuild/imgbuild/builder/disk/fat"
	"github.com/imgbuild/imgbuild/builder/seal"
	"github.com/imgbuild/imgbuild/builder/uki"
)

// kernelDir is where the boot loader looks for unified kernel images; FAT names do not
// distinguish case.
const kernelDir = "efi/linux"

// readESP lists the files with their digests and reads the unified kernel images.
func (im *Image) readESP(r *io.SectionReader, p *disk.Partition) error {
	v, err := fat.Open(r, r.Size())
	if err != nil {
		return err
	}
	entries, err := v.Entries()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Dir {
			continue
		}
		content, err := v.Open(e)
		if err != nil {
			return err
		}
		sum, err := digest(content)
		if err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
		im.Files = append(im.Files, disk.FileSum{Path: e.Path, Size: e.Size, SHA256: sum})
		p.Used += (e.Size + v.ClusterSize() - 1) / v.ClusterSize() * v.ClusterSize()
		if strings.EqualFold(path.Dir(e.Path), kernelDir) && strings.EqualFold(path.Ext(e.Path), ".efi") {
			k, err := readKernel(content)
			if err != nil {
				return fmt.Errorf("%s: %w", e.Path, err)
			}
			k.Path, k.Size, k.SHA256 = e.Path, e.Size, sum
			im.Kernels = append(im.Kernels, k)
		}
	}
	if len(im.Kernels) == 0 {
		return damaged("there is no unified kernel image in EFI/Linux")
	}
	return nil
}

func digest(r io.Reader) (seal.Digest, error) {
	h := sha256.New()
	_, err := io.Copy(h, r)
	return seal.Digest(h.Sum(nil)), err
}

func readKernel(r *io.SectionReader) (Kernel, error) {
	im, err := uki.Parse(r, r.Size())
	if err != nil {
		return Kernel{}, err
	}
	k := Kernel{Architecture: im.Architecture}
	var release string
	for _, s := range []struct {
		name string
		to   *string
	}{{".osrel", &release}, {".cmdline", &k.CommandLine}, {".uname", &k.Release}} {
		if *s.to, err = im.Text(s.name); err != nil {
			return Kernel{}, err
		}
	}
	k.OSRelease = parseOSRelease(release)
	hash, err := rootHash(k.CommandLine)
	if err != nil {
		return Kernel{}, err
	}
	k.RootHash = hash
	return k, nil
}

// rootHash finds the roothash= argument that systemd-veritysetup-generator(8) reads.
func rootHash(commandLine string) (d seal.Digest, err error) {
	for _, arg := range strings.Fields(commandLine) {
		if value, ok := strings.CutPrefix(arg, "roothash="); ok {
			if err := d.UnmarshalText([]byte(value)); err != nil {
				return d, damaged("roothash= on the kernel command line: %v", err)
			}
			return d, nil
		}
	}
	return d, damaged("the kernel command line has no roothash=")
}

// parseOSRelease reads the assignments of os-release(5). Lines that are none are skipped.
func parseOSRelease(text string) map[string]string {
	out := make(map[string]string)
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || key == "" || strings.HasPrefix(key, "#") {
			continue
		}
		out[key] = unquote(value)
	}
	return out
}

// unquote removes shell quoting from a value.
func unquote(s string) string {
	if len(s) < 2 || s[0] != s[len(s)-1] || s[0] != '"' && s[0] != '\'' {
		return s
	}
	quote, s := s[0], s[1:len(s)-1]
	if quote == '\'' {
		return s
	}
	var b strings.Builder
	for k := 0; k < len(s); k++ {
		if s[k] == '\\' && k+1 < len(s) && strings.IndexByte("\"$`\\", s[k+1]) >= 0 {
			k++
		}
		b.WriteByte(s[k])
	}
	return b.String()
}

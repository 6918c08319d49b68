// SPDX-License-Identifier: Apache-2.0

package tool

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

var (
	errScript         = errors.New("it is a script")
	errArchitecture   = errors.New("it is for another architecture")
	errMissingLibrary = errors.New("libraries are missing")
)

// platform is what the ELF files of an architecture look like and where Debian keeps its
// libraries.
type platform struct {
	machine   elf.Machine
	multiarch string
}

var platforms = map[string]platform{
	"amd64": {elf.EM_X86_64, "x86_64-linux-gnu"},
	"arm64": {elf.EM_AARCH64, "aarch64-linux-gnu"},
}

// inspect decides how to start the program in file.
func (s *Set) inspect(file string) (*launch, error) {
	f, err := s.openELF(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	interp, err := interpreter(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if interp == "" {
		return &launch{file: file}, nil
	}
	loader, err := s.inside(filepath.Join(s.Dir, interp))
	if err != nil {
		// Packages ship the loader below /usr; without base-files /lib64 is not a link.
		if loader, err = s.inside(filepath.Join(s.Dir, "usr", interp)); err != nil {
			return nil, fmt.Errorf("%w: its dynamic loader %s", errMissingLibrary, interp)
		}
	}
	dirs, err := s.closure(file)
	if err != nil {
		return nil, err
	}
	return &launch{file: file, loader: loader, libraries: dirs}, nil
}

// openELF opens an ELF file that this machine can execute.
func (s *Set) openELF(file string) (*elf.File, error) {
	f, err := elf.Open(file)
	if err != nil {
		var head [2]byte
		if r, oerr := os.Open(file); oerr == nil {
			_, _ = io.ReadFull(r, head[:])
			r.Close()
		}
		if string(head[:]) == "#!" {
			return nil, fmt.Errorf("%s: %w", file, errScript)
		}
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if want := platforms[runtime.GOARCH].machine; f.Machine != want {
		f.Close()
		return nil, fmt.Errorf("%s: %w: %v instead of %v", file, errArchitecture, f.Machine, want)
	}
	return f, nil
}

// interpreter returns the path in the PT_INTERP segment, or "".
func interpreter(f *elf.File) (string, error) {
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		data, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
		if err != nil {
			return "", err
		}
		name := string(bytes.TrimRight(data, "\x00"))
		if !filepath.IsAbs(name) {
			return "", fmt.Errorf("dynamic loader %q is not an absolute path", name)
		}
		return name, nil
	}
	return "", nil
}

// closure walks the libraries that file needs, directly and through others, and returns
// the directories to search: the standard ones, then private ones that some object names
// in its run path. An absolute run path means the set's directory, not the host's. All
// missing libraries are reported at once.
func (s *Set) closure(file string) ([]string, error) {
	multiarch := platforms[runtime.GOARCH].multiarch
	var dirs []string
	for _, d := range []string{"usr/lib/" + multiarch, "lib/" + multiarch, "usr/lib", "lib"} {
		dirs = s.addDir(dirs, filepath.Join(s.Dir, d))
	}
	type need struct{ name, by string }
	seen := map[string]bool{}
	queue, missing := []string{file}, []need{}
	var wanted []need
	for len(queue) > 0 || len(wanted) > 0 {
		if len(queue) > 0 {
			object := queue[0]
			queue = queue[1:]
			needed, run, err := s.dependencies(object)
			if err != nil {
				return nil, err
			}
			for _, d := range run {
				dirs = s.addDir(dirs, d)
			}
			for _, n := range needed {
				if !seen[n] {
					seen[n] = true
					wanted = append(wanted, need{n, filepath.Base(object)})
				}
			}
			continue
		}
		// Run paths of everything known so far are in dirs by now.
		for _, w := range wanted {
			if p := s.findLibrary(dirs, w.name); p != "" {
				queue = append(queue, p)
			} else {
				missing = append(missing, w)
			}
		}
		wanted = nil
	}
	if len(missing) > 0 {
		var names []string
		for _, m := range missing {
			names = append(names, m.name+" (needed by "+m.by+")")
		}
		return nil, fmt.Errorf("%w: %s", errMissingLibrary, strings.Join(names, ", "))
	}
	return dirs, nil
}

// addDir appends dir if it is a directory of the set and not yet listed. The loader splits
// its list at colons and semicolons, so a directory with one cannot be named.
func (s *Set) addDir(dirs []string, dir string) []string {
	p, err := s.inside(dir)
	if err != nil || slices.Contains(dirs, p) || strings.ContainsAny(p, ":;") {
		return dirs
	}
	return append(dirs, p)
}

// dependencies returns the library names and run paths of an ELF file.
func (s *Set) dependencies(object string) (needed, run []string, err error) {
	f, err := s.openELF(object)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if needed, err = f.ImportedLibraries(); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", object, err)
	}
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		lists, err := f.DynString(tag)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", object, err)
		}
		for _, list := range lists {
			for d := range strings.SplitSeq(list, ":") {
				origin := filepath.Dir(object)
				switch {
				case strings.HasPrefix(d, "$ORIGIN"):
					run = append(run, filepath.Join(origin, strings.TrimPrefix(d, "$ORIGIN")))
				case strings.HasPrefix(d, "${ORIGIN}"):
					run = append(run, filepath.Join(origin, strings.TrimPrefix(d, "${ORIGIN}")))
				case filepath.IsAbs(d):
					run = append(run, filepath.Join(s.Dir, d))
				}
			}
		}
	}
	return needed, run, nil
}

func (s *Set) findLibrary(dirs []string, name string) string {
	for _, d := range dirs {
		if p, err := s.inside(filepath.Join(d, name)); err == nil {
			return p
		}
	}
	return ""
}

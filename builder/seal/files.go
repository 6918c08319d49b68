// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"bytes"
	"io"
	"os"
	"sync"

	"github.com/imgbuild/imgbuild/builder/tree"
)

// files keeps a file open for as long as runs still need it: many runs are ranges of the
// same unpacked package.
type files struct {
	mu    sync.Mutex
	known map[string]*openFile
}

type openFile struct {
	pending int
	f       *os.File
}

// expect announces one later open of name.
func (s *files) expect(name string) {
	if name == "" {
		return
	}
	if s.known == nil {
		s.known = make(map[string]*openFile)
	}
	if s.known[name] == nil {
		s.known[name] = &openFile{}
	}
	s.known[name].pending++
}

// open returns the bytes content refers to, addressed like the file that holds them.
func (s *files) open(c tree.Content) (io.ReaderAt, error) {
	if c.File == "" {
		return bytes.NewReader(c.Data), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.known[c.File]
	if k.f == nil {
		f, err := os.Open(c.File)
		if err != nil {
			return nil, err
		}
		k.f = f
	}
	return k.f, nil
}

// done ends one use.
func (s *files) done(name string) {
	if name == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.known[name]
	k.pending--
	if k.pending == 0 && k.f != nil {
		k.f.Close()
		k.f = nil
	}
}

func (s *files) closeAll() {
	for _, k := range s.known {
		if k.f != nil {
			k.f.Close()
		}
	}
}

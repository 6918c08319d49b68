// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// Source is a cluster.yaml that was read, with every file that it names.
type Source struct {
	// File is its name, Dir the directory that names in it are relative to.
	File, Dir string
	Cluster   *Cluster
	// Warnings are what is allowed and probably not meant.
	Warnings strict.Problems

	text        []byte
	doc, advice *strict.Document
	// written is the file without defaults.
	written *Cluster
	// files holds the content of named files by the name as written.
	files map[string][]byte
	// extra are problems of other files than File.
	extra strict.Problems
	// snippets are the translated Butane files by name.
	snippets map[string]*snippet
}

// Load reads and checks a cluster.yaml. Everything that is wrong with it and with the files
// it names is in one error of class Config, which wraps strict.Problems.
func Load(file string) (*Source, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fault.Wrap(fault.Usage, err, "name a file that can be read; 'imgbuild cluster init' prints one to start from")
	}
	return Parse(file, filepath.Dir(file), data)
}

// Parse is Load for data that was read already. Dir is where files that it names are.
func Parse(file, dir string, data []byte) (*Source, error) {
	s := &Source{File: file, Dir: dir, text: data, Cluster: &Cluster{}, written: &Cluster{}, files: map[string][]byte{}, snippets: map[string]*snippet{}}
	s.doc = strict.Decode(file, data, s.Cluster)
	// Advice is a second reading of the same text, so that warnings have lines too.
	s.advice = strict.Decode(file, data, s.written)
	known := len(s.advice.Problems())
	setDefaults(s.Cluster)
	(&validator{Source: s, c: s.Cluster}).all()
	problems := append(s.doc.Problems(), s.extra...)
	if err := problems.Err(); err != nil {
		return nil, fault.Wrap(fault.Config, err, "correct the file; docs/reference/cluster.md describes every key")
	}
	if known == 0 {
		s.Warnings = s.advice.Problems()
	}
	return s, nil
}

// attach reads a file that the value at path names, once.
func (s *Source) attach(path, name string) []byte {
	if name == "" {
		return nil
	}
	if data, ok := s.files[name]; ok {
		return data
	}
	file := name
	if !filepath.IsAbs(file) {
		file = filepath.Join(s.Dir, name)
	}
	data, err := readRegular(file)
	if err != nil {
		s.doc.Report(path, fmt.Sprintf("cannot be read: %v", err), "a file, relative to the directory of "+filepath.Base(s.File))
	}
	s.files[name] = data
	return data
}

// readRegular reads a file, and neither devices nor what is too large for a config anyway.
func readRegular(file string) ([]byte, error) {
	const most = 16 << 20
	st, err := os.Stat(file)
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	case st.Size() > most:
		return nil, fmt.Errorf("it has %d bytes, and at most %d are taken", st.Size(), most)
	}
	return os.ReadFile(file)
}

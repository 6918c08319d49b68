// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"bytes"
	"debug/elf"
	"fmt"
	"strings"
)

// Info is what a module says about its dependencies in its .modinfo section.
type Info struct {
	// Depends are the modules whose symbols it uses ("depends=").
	Depends []string
	// Soft are modules it asks for at run time ("softdep=pre: a b post: c"). A kernel
	// may lack them.
	Soft []string
}

// ParseInfo reads the .modinfo section of an ELF kernel module: NUL-separated
// key=value strings (include/linux/moduleparam.h).
func ParseInfo(module []byte) (Info, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	s := f.Section(".modinfo")
	if s == nil {
		return Info{}, fmt.Errorf("not a kernel module: no .modinfo section")
	}
	data, err := s.Data()
	if err != nil {
		return Info{}, err
	}
	var info Info
	for _, entry := range strings.Split(string(data), "\x00") {
		key, value, ok := strings.Cut(entry, "=")
		if !ok {
			continue
		}
		switch key {
		case "depends":
			for _, d := range strings.Split(value, ",") {
				if d != "" {
					info.Depends = append(info.Depends, Name(d))
				}
			}
		case "softdep":
			for _, word := range strings.Fields(value) {
				if word != "pre:" && word != "post:" {
					info.Soft = append(info.Soft, Name(word))
				}
			}
		}
	}
	return info, nil
}

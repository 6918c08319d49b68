// SPDX-License-Identifier: Apache-2.0

// Package keyrings embeds the public keys that Debian signs its archive with. They are
// the root of trust for every package in an image; README.md lists where they are from.
package keyrings

import (
	"embed"
	"io/fs"
)

//go:embed *.asc
var files embed.FS

// Debian returns the armored public keys, keyed by file name.
func Debian() (map[string][]byte, error) {
	names, err := fs.Glob(files, "*.asc")
	if err != nil {
		return nil, err
	}
	out := make(map[string][]byte, len(names))
	for _, name := range names {
		if out[name], err = files.ReadFile(name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

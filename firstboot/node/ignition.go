// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_5"

	"github.com/imgbuild/imgbuild/firstboot/ignition"
)

// ErrIgnition reports an Ignition config that is invalid or holds no usable node document.
var ErrIgnition = errors.New("not a usable Ignition config")

// FromIgnition validates an Ignition config (spec 3.x up to 3.5) with Ignition's own types
// and returns the node document inside: the storage file at Path with its content inline,
// as a data URL. On a node the document is read from the file that Ignition wrote; this is
// for whoever writes configs.
func FromIgnition(file string, data []byte) ([]byte, error) {
	cfg, rep, err := v3_5.ParseCompatibleVersion(data)
	if err != nil || rep.IsFatal() {
		var lines []string
		for _, e := range rep.Entries {
			lines = append(lines, file+": "+e.String())
		}
		if err != nil {
			lines = append(lines, file+": "+err.Error())
		}
		return nil, fmt.Errorf("%w:\n%s", ErrIgnition, strings.Join(lines, "\n"))
	}
	for _, f := range cfg.Storage.Files {
		if f.Path != Path {
			continue
		}
		doc, err := ignition.Data(f.Contents)
		if err != nil {
			return nil, fmt.Errorf("%s: %w: storage file %s: %w", file, ErrIgnition, Path, err)
		}
		return doc, nil
	}
	return nil, fmt.Errorf("%s: %w: no storage file %s; configs that this one merges or replaces are not followed", file, ErrIgnition, Path)
}

// SPDX-License-Identifier: Apache-2.0

package build

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// checkOutput refuses, before any work is done, a name that a finished image must not
// replace. A regular file is replaced whatever it holds, as any compiler's output is, and
// only by a complete image. A link, a device or a directory of that name is something
// somebody set up on purpose, and so is a .json file there that is not a receipt.
func (p *Project) checkOutput() error {
	info, err := os.Lstat(p.Output)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fault.Wrap(fault.Usage, err, "name another file with --output")
	case info.IsDir():
		return fault.New(fault.Usage, "name a file with --output", "%s is a directory", p.Output)
	case info.Mode()&fs.ModeSymlink != 0:
		return fault.New(fault.Usage, "name the file it leads to with --output, or remove the link", "%s is a symbolic link, which the image would replace", p.Output)
	case !info.Mode().IsRegular():
		return fault.New(fault.Usage, "write the image to a file first, then copy it there", "%s is not a regular file (%s)", p.Output, info.Mode().Type())
	}
	data, err := os.ReadFile(p.receiptPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var r receipt
	if err != nil || len(data) > 0 && (json.Unmarshal(data, &r) != nil || r.Key == "") {
		return fault.New(fault.Usage, "move it away, or name another image with --output", "%s would hold the record of this build but is something else", p.receiptPath())
	}
	return nil
}

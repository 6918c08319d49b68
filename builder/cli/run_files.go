// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// writable is an error when a file that is to be written at the end of a long run cannot be. It
// leaves what is there as it is.
func writable(flag, path string) error {
	if path == "" {
		return nil
	}
	_, err := os.Lstat(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fault.Wrap(fault.Usage, err, "name a file that can be written with --"+flag)
	}
	f.Close()
	if fresh {
		return os.Remove(path)
	}
	return nil
}

// captureFile is what frames are written to. The first error is told at once and kept for the
// end: the run goes on without.
type captureFile struct {
	*os.File
	tell func(error)
	once sync.Once
	err  error
}

// openCapture opens the file and leaves its content until start.
func openCapture(path string, tell func(error)) (*captureFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fault.Wrap(fault.Usage, err, "name a file that can be written with --capture")
	}
	return &captureFile{File: f, tell: tell}, nil
}

// start empties the file, which until then may be another run's. What cannot be emptied, such as
// a pipe to a program that shows frames, needs not be.
func (c *captureFile) start() { _ = c.Truncate(0) }

func (c *captureFile) Write(p []byte) (int, error) {
	n, err := c.File.Write(p)
	c.failed(err)
	return n, err
}

func (c *captureFile) failed(err error) {
	if err != nil {
		c.once.Do(func() {
			c.err = fmt.Errorf("the capture is not complete: %w", err)
			c.tell(c.err)
		})
	}
}

// close returns what is wrong with the file. Nothing writes to it any more.
func (c *captureFile) close() error {
	c.failed(c.Close())
	return c.err
}

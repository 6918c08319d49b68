// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// base says which image lies under a machine's disk. What the guest wrote is only right above
// the very bytes that it saw.
type base struct {
	Image    string    `json:"image"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	// Head is the digest of the image's first headSize bytes.
	Head string `json:"head"`
}

// headSize covers the partition table, whose identifiers follow from the root file system's hash,
// and in the partition after it the kernels and their command lines: with these the same, all is.
const headSize = 128 << 20

// heads are the digests of images as they were seen: machines that start together share one.
var heads sync.Map

// identify looks at an image.
func identify(image string) (base, error) {
	info, err := os.Stat(image)
	if err != nil {
		return base{}, err
	}
	b := base{Image: image, Size: info.Size(), Modified: info.ModTime().UTC()}
	head, _ := heads.LoadOrStore(b, sync.OnceValues(func() (string, error) { return digestHead(image) }))
	b.Head, err = head.(func() (string, error))()
	return b, err
}

func digestHead(image string) (string, error) {
	f, err := os.Open(image)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, headSize)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// write keeps what was seen beside the disk.
func (b base) write(dir string) error {
	text, err := json.Marshal(b)
	if err != nil {
		return err
	}
	return appear(filepath.Join(dir, baseFile), func(temporary string) error { return os.WriteFile(temporary, append(text, '\n'), 0o600) })
}

// sameBase is an error unless image, and what is at the path that the disk in dir refers to, are
// the image that the disk was made on. An image that was only touched or copied still is.
func sameBase(dir, image string) error {
	hint := "remove " + dir + " to start with an empty disk, or boot the image that it was made on"
	text, err := os.ReadFile(filepath.Join(dir, baseFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Usage, hint, "nothing says which image the disk in %s was made on", dir)
	}
	if err != nil {
		return err
	}
	var was base
	if json.Unmarshal(text, &was) != nil {
		return fault.New(fault.Usage, hint, "%s does not say which image the disk beside it was made on", filepath.Join(dir, baseFile))
	}
	for _, path := range []string{image, was.Image} {
		if info, err := os.Stat(path); err == nil && info.Size() == was.Size && info.ModTime().Equal(was.Modified) && path == was.Image {
			continue
		}
		is, err := identify(path)
		if err != nil {
			return fault.Wrap(fault.Usage, fmt.Errorf("the image that the disk in %s was made on: %w", dir, err), hint)
		}
		if is.Size != was.Size || is.Head != was.Head {
			return fault.New(fault.Usage, hint, "the disk in %s was made on another image than %s is now", dir, path)
		}
	}
	return nil
}

// appear lets make write a file under another name and then gives it its own, so that a run that
// is killed leaves it whole or not at all.
func appear(path string, make func(temporary string) error) error {
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := make(temporary); err != nil {
		_ = os.Remove(temporary)
		return err
	}
	return os.Rename(temporary, path)
}

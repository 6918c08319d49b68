// SPDX-License-Identifier: Apache-2.0

// Package containerd puts the node's base image into containerd's image store through its
// gRPC API, the way an import would, without unpacking it: the CRI plugin unpacks an image
// when the first container needs it.
package containerd

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// BaseImagePath is where an image carries its base image, as a tar file of an OCI image
// layout (image-spec, image-layout.md).
const BaseImagePath = "/usr/share/imgbuild/base-image.tar"

// maxDocument bounds index, manifest and configuration; real ones are a few KiB.
const maxDocument = 4 << 20

// part is a file of a layout inside its archive or directory.
type part struct {
	file   string
	offset int64
	size   int64
}

// Layout is an opened OCI image layout.
type Layout struct {
	parts map[string]part
	// Images are the named images of the index.
	Images []Image
}

// Image is one image of a layout: what to store and under which name.
type Image struct {
	Name     string
	Target   ocispec.Descriptor
	Manifest ocispec.Manifest
}

// OpenLayout reads the index and the manifests of the layout at p, a tar file or a
// directory. Multi-platform indexes are refused: a node image is for one architecture.
func OpenLayout(p string) (*Layout, error) {
	l := &Layout{parts: map[string]part{}}
	st, err := os.Stat(p)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		err = l.scanDir(p)
	} else {
		err = l.scanTar(p)
	}
	if err == nil {
		err = l.readIndex()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	return l, nil
}

func (l *Layout) scanDir(dir string) error {
	return filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		l.parts[filepath.ToSlash(rel)] = part{file: p, size: st.Size()}
		return err
	})
}

func (l *Layout) scanTar(p string) error {
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	tr := tar.NewReader(f)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		// The tar reader reads whole blocks and no further, so the file stands at the
		// first byte of the content.
		at, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		l.parts[path.Clean(h.Name)] = part{file: p, offset: at, size: h.Size}
	}
}

func (l *Layout) readIndex() error {
	var index ocispec.Index
	if err := l.document(ocispec.ImageIndexFile, "", &index); err != nil {
		return err
	}
	for _, d := range index.Manifests {
		name := d.Annotations["io.containerd.image.name"]
		if name == "" {
			name = d.Annotations[ocispec.AnnotationRefName]
		}
		if name == "" {
			return fmt.Errorf("%s: manifest %s has no name; annotate it with %s", ocispec.ImageIndexFile, d.Digest, ocispec.AnnotationRefName)
		}
		if d.MediaType != ocispec.MediaTypeImageManifest {
			return fmt.Errorf("image %s has media type %q; only %s is supported", name, d.MediaType, ocispec.MediaTypeImageManifest)
		}
		img := Image{Name: name, Target: d}
		if err := l.document(blobPath(d.Digest), d.Digest, &img.Manifest); err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
		l.Images = append(l.Images, img)
	}
	if len(l.Images) == 0 {
		return fmt.Errorf("%s lists no image", ocispec.ImageIndexFile)
	}
	return nil
}

// document reads and decodes a JSON part; a non-empty want is verified.
func (l *Layout) document(name string, want digest.Digest, out any) error {
	r, size, err := l.open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	if size > maxDocument {
		return fmt.Errorf("%s is %d bytes long, more than %d", name, size, maxDocument)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if want != "" && digest.FromBytes(data) != want {
		return fmt.Errorf("%s does not have the digest in its name", name)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (l *Layout) open(name string) (io.ReadCloser, int64, error) {
	p, ok := l.parts[name]
	if !ok {
		return nil, 0, fmt.Errorf("%s is missing from the layout", name)
	}
	f, err := os.Open(p.file)
	if err != nil {
		return nil, 0, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, p.offset, p.size), f}, p.size, nil
}

func blobPath(d digest.Digest) string {
	if d.Validate() != nil {
		return "blobs/invalid"
	}
	return path.Join("blobs", d.Algorithm().String(), d.Encoded())
}

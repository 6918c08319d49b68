// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/imgbuild/imgbuild/test/stock"
)

// mirror serves on a port of the gateway until the test ends.
func (h *haCluster) mirror(port uint16, config *tls.Config, handle http.HandlerFunc) {
	h.Helper()
	l, err := h.fleet.Gateway.Listen(port)
	if err != nil {
		h.Fatal(err)
	}
	serveHTTP(h.T, l, config, handle)
}

// serving is a registry with one image.
func serving(t *testing.T, repository, digest string, image v1.Image) http.Handler {
	t.Helper()
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if err := stock.Push(handler, repository, digest, image); err != nil {
		t.Fatal(err)
	}
	return handler
}

// programImage is an image with a static program at its root, which it runs, and nothing else.
func programImage(t *testing.T, program string) (image v1.Image, digest string) {
	t.Helper()
	name, data := filepath.Base(program), read(t, program)
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(data))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	if image, err = mutate.AppendLayers(empty.Image, l); err != nil {
		t.Fatal(err)
	}
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.Architecture, file.OS, file.Config.Entrypoint = "amd64", "linux", []string{"/" + name}
	if image, err = mutate.ConfigFile(image, file); err != nil {
		t.Fatal(err)
	}
	hash, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return image, hash.String()
}

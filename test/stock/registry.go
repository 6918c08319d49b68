// SPDX-License-Identifier: Apache-2.0

package stock

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Registry serves the images of some archives, named by patterns as in Machine.Images, as a
// mirror of the registries they belong to does: for nodes that pull what runs on them.
func (m *Media) Registry(patterns ...string) (http.Handler, error) {
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	for _, pattern := range patterns {
		archives, err := filepath.Glob(filepath.Join(m.dir, pattern))
		if err != nil || len(archives) == 0 {
			return nil, fmt.Errorf("no archive is called %s", pattern)
		}
		for _, archive := range archives {
			if err := push(handler, archive); err != nil {
				return nil, fmt.Errorf("%s: %w", archive, err)
			}
		}
	}
	return handler, nil
}

// push copies an archive's only image to a registry under the rest of its name.
func push(to http.Handler, archive string) error {
	tags, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(archive) })
	if err != nil {
		return err
	}
	image, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(tags[0].RepoTags[0], "/")
	repository, tag, _ := strings.Cut(rest, ":")
	return Push(to, repository, tag, image)
}

// Push gives a registry an image under a repository and a tag or digest.
func Push(to http.Handler, repository, reference string, image v1.Image) error {
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		data, err := l.Compressed()
		if err != nil {
			return err
		}
		digest, err := l.Digest()
		if err == nil {
			err = put(to, http.MethodPost, blobPath(repository, digest), "application/octet-stream", data)
		}
		if err != nil {
			return err
		}
	}
	config, err := image.RawConfigFile()
	if err != nil {
		return err
	}
	digest, err := image.ConfigName()
	if err != nil {
		return err
	}
	if err := put(to, http.MethodPost, blobPath(repository, digest), "application/octet-stream", bytes.NewReader(config)); err != nil {
		return err
	}
	manifest, err := image.RawManifest()
	if err != nil {
		return err
	}
	kind, err := image.MediaType()
	if err != nil {
		return err
	}
	return put(to, http.MethodPut, "/v2/"+repository+"/manifests/"+reference, string(kind), bytes.NewReader(manifest))
}

func blobPath(repository string, digest v1.Hash) string {
	return "/v2/" + repository + "/blobs/uploads/?digest=" + digest.String()
}

func put(to http.Handler, method, path, kind string, body io.Reader) error {
	req := httptest.NewRequest(method, path, body)
	req.Header.Set("Content-Type", kind)
	answer := httptest.NewRecorder()
	to.ServeHTTP(answer, req)
	if answer.Code != http.StatusCreated {
		return fmt.Errorf("%s %s: %d %s", method, path, answer.Code, answer.Body)
	}
	return nil
}

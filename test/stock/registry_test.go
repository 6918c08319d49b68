// SPDX-License-Identifier: Apache-2.0

package stock

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// TestRegistry gets a manifest and its layer as a container runtime does.
func TestRegistry(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "pause")
	if err := os.WriteFile(program, []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "images"), 0o755); err != nil {
		t.Fatal(err)
	}
	i := image{ref: "registry.k8s.io/a/pause:3", program: "pause", at: "/pause"}
	if err := i.write(filepath.Join(dir, "images"), programs{"pause": program}, fstest.MapFS{}); err != nil {
		t.Fatal(err)
	}
	m := &Media{dir: dir}
	if _, err := m.Registry("images/none_*.tar"); err == nil {
		t.Error("an archive that is not there is served")
	}
	h, err := m.Registry(AllImages)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	defer s.Close()
	get := func(path string) string {
		resp, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %v", path, resp.Status, err)
		}
		return string(text)
	}
	manifest := get("/v2/a/pause/manifests/3")
	if strings.Count(manifest, `"digest":"`) != 2 {
		t.Fatal(manifest)
	}
	for _, part := range strings.Split(manifest, `"digest":"`)[1:] {
		digest, _, _ := strings.Cut(part, `"`)
		if get("/v2/a/pause/blobs/"+digest) == "" {
			t.Errorf("%s is empty", digest)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package stock

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// TestImage reads an archive back with the library that container tools use.
func TestImage(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "pause")
	if err := os.WriteFile(program, []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	i := image{ref: "registry.k8s.io/pause:3", program: "pause", at: "/pause", entrypoint: true}
	if err := i.write(dir, programs{"pause": program}, fstest.MapFS{}); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("registry.k8s.io/pause:3")
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(filepath.Join(dir, "pause_3.tar"), &tag)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil || config.OS != "linux" || config.Architecture != "amd64" || !slices.Equal(config.Config.Entrypoint, []string{"/pause"}) {
		t.Errorf("%v %+v", err, config)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Errorf("%d layers, %v", len(layers), err)
	}
}

// TestClosure takes the test program itself, which is static or needs the host's libraries.
func TestClosure(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	err = closure(fstest.MapFS{"usr/sbin/x": {Data: self}}, []string{"usr/sbin/x"}, files)
	if err != nil && !strings.Contains(err.Error(), libraries) {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Error("nothing taken")
	}
	if err := closure(fstest.MapFS{}, []string{"usr/sbin/none"}, files); err == nil {
		t.Error("a missing program is accepted")
	}
}

func TestStamps(t *testing.T) {
	flags, err := stamps("../../assets/components/kubernetes/component.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if want := "-X k8s.io/component-base/version.gitVersion=" + KubernetesVersion; !strings.Contains(flags, want) || strings.Contains(flags, "${") {
		t.Errorf("%q is not in %q", want, flags)
	}
}

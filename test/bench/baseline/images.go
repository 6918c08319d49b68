// SPDX-License-Identifier: Apache-2.0

package baseline

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// image is one archive: a program at a path, and more files of the node's root.
type image struct {
	ref, program, at string
	entrypoint       bool
	// with names programs of the node's userland that the image needs besides.
	with []string
}

// images are those that kubeadm asks for.
func images() []image {
	list := []image{
		{ref: "etcd:" + etcdTag, program: "etcd", at: "/usr/local/bin/etcd"},
		{ref: "coredns/coredns:" + coreDNSTag, program: "coredns", at: "/coredns", entrypoint: true},
		{ref: "pause:" + pauseTag, program: "pause", at: "/pause", entrypoint: true},
	}
	for _, p := range separate {
		i := image{ref: p + ":" + KubernetesVersion, program: p, at: "/usr/local/bin/" + p}
		if p == "kube-proxy" {
			i.with = []string{"usr/sbin/xtables-nft-multi", "usr/sbin/nft", "usr/sbin/conntrack"}
		}
		list = append(list, i)
	}
	return list
}

// links lead from the names kube-proxy calls to the program behind them.
var links = map[string][]string{"usr/sbin/xtables-nft-multi": {
	"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"}}

// write puts the image's archive, as docker save makes them, into dir.
func (i image) write(dir string, programs Programs, root fs.FS) error {
	layer, err := i.layer(programs[i.program], root)
	if err != nil {
		return fmt.Errorf("image %s: %w", i.ref, err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer)), nil },
		tarball.WithCompressionLevel(gzip.DefaultCompression))
	if err != nil {
		return err
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return err
	}
	config := v1.Config{Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, WorkingDir: "/"}
	if i.entrypoint {
		config.Entrypoint = []string{i.at}
	}
	file, err := img.ConfigFile()
	if err != nil {
		return err
	}
	file = file.DeepCopy()
	file.Architecture, file.OS, file.Config = "amd64", "linux", config
	if img, err = mutate.ConfigFile(img, file); err != nil {
		return err
	}
	ref, err := name.NewTag(repository + "/" + i.ref)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(filepath.Join(dir, strings.NewReplacer("/", "_", ":", "_").Replace(i.ref)+".tar"), ref, img)
}

// layer is the tar of the image's only layer.
func (i image) layer(program string, root fs.FS) ([]byte, error) {
	files := map[string][]byte{}
	data, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	files[strings.TrimPrefix(i.at, "/")] = data
	symlinks := map[string]string{}
	if len(i.with) > 0 {
		if err := closure(root, i.with, files); err != nil {
			return nil, err
		}
		for target, names := range links {
			for _, n := range names {
				symlinks["usr/sbin/"+n] = path.Base(target)
			}
		}
		for _, n := range []string{"bin", "lib", "lib64", "sbin"} {
			symlinks[n] = "usr/" + n
		}
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	var dirs []string
	for name := range files {
		for d := path.Dir(name); d != "."; d = path.Dir(d) {
			dirs = append(dirs, d)
		}
	}
	slices.Sort(dirs)
	for _, d := range slices.Compact(dirs) {
		if err := w.WriteHeader(&tar.Header{Name: d + "/", Mode: 0o755, Typeflag: tar.TypeDir}); err != nil {
			return nil, err
		}
	}
	for _, name := range sortedKeys(files) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Typeflag: tar.TypeReg, Size: int64(len(files[name]))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(files[name]); err != nil {
			return nil, err
		}
	}
	for _, name := range sortedKeys(symlinks) {
		if err := w.WriteHeader(&tar.Header{Name: name, Linkname: symlinks[name], Mode: 0o777, Typeflag: tar.TypeSymlink}); err != nil {
			return nil, err
		}
	}
	err = w.Close()
	return buf.Bytes(), err
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

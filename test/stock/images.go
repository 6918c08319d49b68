// SPDX-License-Identifier: Apache-2.0

package stock

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
	// with names programs of the node's userland that the image needs besides, scripts what
	// stands in for programs that userland lacks.
	with    []string
	scripts map[string]string
}

// images are those that kubeadm asks for.
func images() []image {
	list := []image{
		{ref: repository + "/etcd:" + etcdTag, program: "etcd", at: "/usr/local/bin/etcd"},
		{ref: repository + "/coredns/coredns:" + coreDNSTag, program: "coredns", at: "/coredns", entrypoint: true},
		{ref: repository + "/pause:" + pauseTag, program: "pause", at: "/pause", entrypoint: true},
	}
	for _, p := range separate {
		i := image{ref: repository + "/" + p + ":" + KubernetesVersion, program: p, at: "/usr/local/bin/" + p}
		if p == "kube-proxy" {
			i.with = []string{"usr/sbin/xtables-nft-multi", "usr/sbin/nft", "usr/sbin/conntrack"}
		}
		list = append(list, i)
	}
	return list
}

// Flannel is the reference of the image with flannel's daemon.
const Flannel = "registry.example.org/flannel:v1"

// flannel is laid out as upstream's image, which has busybox for a userland.
func flannel() image {
	return image{ref: Flannel, program: "coredns", at: "/opt/bin/flanneld",
		with: []string{"usr/sbin/xtables-nft-multi", "usr/sbin/nft", "usr/bin/dash", "usr/bin/cat", "usr/bin/mv", "usr/bin/rm", "usr/bin/sleep"},
		scripts: map[string]string{"usr/bin/cmp": `#!/bin/sh
while [ $# -gt 2 ]; do shift; done
[ -e "$2" ] && [ "$(cat "$1")" = "$(cat "$2")" ]
`}}
}

// links lead from the names that are called to the program behind them.
var links = map[string][]string{
	"usr/sbin/xtables-nft-multi": {"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"},
	"usr/bin/dash":               {"sh"},
}

// write puts the image's archive, as docker save makes them, into dir.
func (i image) write(dir string, programs programs, root fs.FS) error {
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
	ref, err := name.NewTag(i.ref)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(filepath.Join(dir, i.file()), ref, img)
}

// file names the archive after the reference without its registry.
func (i image) file() string {
	_, rest, _ := strings.Cut(i.ref, "/")
	return strings.NewReplacer("/", "_", ":", "_").Replace(rest) + ".tar"
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
		for _, target := range i.with {
			for _, n := range links[target] {
				symlinks[path.Join(path.Dir(target), n)] = path.Base(target)
			}
		}
		for n, text := range i.scripts {
			files[n] = []byte(text)
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

// SPDX-License-Identifier: Apache-2.0

package baseline

import (
	"context"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/erofs/go-erofs"

	"github.com/imgbuild/imgbuild/builder/disk"
	"github.com/imgbuild/imgbuild/builder/inspect"
	"github.com/imgbuild/imgbuild/builder/vm"
)

//go:embed guest
var guestFiles embed.FS

// DoneMark is what the console says when kubeadm init has succeeded.
const DoneMark = "kubeadm-init"

// Guest returns the Ignition side of the machine. Only the cluster's authority is made in
// advance, so that the host can ask the API; kubeadm makes everything else.
func Guest(now time.Time) (*vm.Guest, error) {
	files, err := vm.ClusterCA(now)
	if err != nil {
		return nil, err
	}
	g := &vm.Guest{Files: append(files, vm.Hostname("cp-1"),
		vm.GuestFile{Path: "/etc/hosts", Mode: 0o644, Data: []byte("127.0.0.1 localhost\n10.0.2.15 cp-1\n")})}
	for _, f := range []struct {
		name, path string
		mode       int
	}{
		{"init.sh", "/etc/bench/init.sh", 0o755},
		{"kubeadm.yaml", "/etc/bench/kubeadm.yaml", 0o644},
		{"sandbox.toml", "/etc/containerd/conf.d/bench.toml", 0o644},
		{"bridge.conflist", "/etc/cni/net.d/10-bench.conflist", 0o644},
	} {
		data, err := guestFiles.ReadFile("guest/" + f.name)
		if err != nil {
			return nil, err
		}
		text := strings.NewReplacer("@VERSION@", KubernetesVersion, "@PAUSE@", repository+"/pause:"+pauseTag).Replace(string(data))
		g.Files = append(g.Files, vm.GuestFile{Path: f.path, Mode: f.mode, Data: []byte(text)})
	}
	unit, err := guestFiles.ReadFile("guest/bench.service")
	g.Units = []vm.GuestUnit{{Name: "bench.service", Contents: string(unit)}}
	return g, err
}

// Disk makes the second disk, an EROFS with bin/ and images/, below dir and returns its path.
// image is the node image whose userland kube-proxy's image takes iptables from.
func Disk(ctx context.Context, root, image, dir string, component func(name string) ([]string, error)) (string, error) {
	content := filepath.Join(dir, "content")
	if err := os.RemoveAll(content); err != nil {
		return "", err
	}
	for _, d := range []string{"bin", "images"} {
		if err := os.MkdirAll(filepath.Join(content, d), 0o755); err != nil {
			return "", err
		}
	}
	programs, err := build(ctx, root, dir, component)
	if err != nil {
		return "", err
	}
	for _, p := range []string{"kubeadm", "ctr"} {
		data, err := os.ReadFile(programs[p])
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(content, "bin", p), data, 0o755); err != nil {
			return "", err
		}
	}
	node, closeNode, err := nodeRoot(ctx, image)
	if err != nil {
		return "", err
	}
	defer closeNode()
	for _, i := range images() {
		if err := i.write(filepath.Join(content, "images"), programs, node); err != nil {
			return "", err
		}
	}
	return pack(content, filepath.Join(dir, "baseline.erofs"))
}

// nodeRoot opens the root file system inside a node image.
func nodeRoot(ctx context.Context, image string) (fs.FS, func(), error) {
	im, err := inspect.File(ctx, image, inspect.Options{})
	if err != nil {
		return nil, nil, err
	}
	for _, p := range im.Partitions {
		if p.Slot == disk.RootA {
			f, err := os.Open(image)
			if err != nil {
				return nil, nil, err
			}
			fsys, err := erofs.Open(io.NewSectionReader(f, p.Offset, p.Size))
			if err != nil {
				f.Close()
				return nil, nil, err
			}
			return fsys, func() { f.Close() }, nil
		}
	}
	return nil, nil, fmt.Errorf("%s has no root partition", image)
}

// pack writes a directory as an EROFS, padded to whole mebibytes as a disk's size.
func pack(content, to string) (string, error) {
	f, err := os.Create(to)
	if err != nil {
		return "", err
	}
	defer f.Close()
	w := erofs.Create(f)
	if err := w.CopyFrom(os.DirFS(content)); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	const mib = 1 << 20
	return to, f.Truncate((info.Size() + mib - 1) / mib * mib)
}

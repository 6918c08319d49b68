// SPDX-License-Identifier: Apache-2.0

// Package baseimage builds the one container image a node needs to run programs from its own
// /usr: a pause program, mount points and the links that make /bin and /lib lead into /usr.
// The result is an OCI image layout inside a tar archive (OCI image specification 1.1), a pure
// function of its inputs. It is put into the node image when that is built and imported into
// containerd at first boot; every pod sandbox and every verity-delivered pod uses it.
package baseimage

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// Ref is the image's name in containerd. The number changes with the image's layout.
	Ref  = name + ":" + tag
	name = "imgbuild.io/base"
	tag  = "2"
	// ArchivePath is where the node image carries the archive.
	ArchivePath = "/usr/share/imgbuild/base-image.tar"
	// Path is the search path of programs in the image.
	Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"

	// nameAnnotation gives the image its full name when containerd imports the archive.
	nameAnnotation = "io.containerd.image.name"
)

// At is another name of the same image, with the version of the program that a pod runs in it.
// Whoever asks a pod's image for the version of a component, as kubeadm does, learns it.
func At(version string) string { return name + ":" + strings.ReplaceAll(version, "+", "_") }

// entry is one member of the image's only layer.
type entry struct {
	path, link string
	mode       fs.FileMode
	data       []byte
}

// protocols are those that services have (RFC 1700's names; numbers assigned by IANA). ipset, which
// kube-proxy uses with IPVS, knows them by this file only.
const protocols = "icmp\t1\tICMP\ntcp\t6\tTCP\nudp\t17\tUDP\nipv6-icmp\t58\tIPv6-ICMP\nsctp\t132\tSCTP\n"

func entries(pause []byte) []entry {
	var list []entry
	dir := func(mode fs.FileMode, paths ...string) {
		for _, p := range paths {
			list = append(list, entry{path: p + "/", mode: mode})
		}
	}
	dir(0o755, "dev", "etc", "etc/ssl", "etc/ssl/certs", "proc", "run", "sys", "usr", "var", "var/lib")
	dir(0o1777, "tmp")
	for _, l := range []string{"bin", "lib", "lib64", "sbin"} {
		list = append(list, entry{path: l, link: "usr/" + l, mode: 0o777})
	}
	return append(list,
		entry{path: "etc/passwd", mode: 0o644, data: []byte("root:x:0:0:root:/:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n")},
		entry{path: "etc/group", mode: 0o644, data: []byte("root:x:0:\nnogroup:x:65534:\n")},
		entry{path: "etc/nsswitch.conf", mode: 0o644, data: []byte("passwd: files\ngroup: files\nhosts: files dns\nprotocols: files\n")},
		entry{path: "etc/protocols", mode: 0o644, data: []byte(protocols)},
		entry{path: "pause", mode: 0o755, data: pause})
}

// Build returns the archive. Pause is a static executable for arch, a Go architecture name.
func Build(pause []byte, arch string) ([]byte, error) {
	if !bytes.HasPrefix(pause, []byte("\x7fELF")) {
		return nil, fmt.Errorf("base image: the pause program (%d bytes) is not an ELF executable; build assets/components/pause for linux/%s", len(pause), arch)
	}
	layer, err := archive(entries(pause))
	if err != nil {
		return nil, err
	}
	var blobs []entry
	put := func(mediaType string, data []byte) ocispec.Descriptor {
		d := digest.FromBytes(data)
		blobs = append(blobs, entry{path: "blobs/sha256/" + d.Encoded(), mode: 0o644, data: data})
		return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
	}
	platform := ocispec.Platform{Architecture: arch, OS: "linux"}
	epoch := time.Unix(0, 0).UTC()
	config, err := json.Marshal(ocispec.Image{
		Created: &epoch, Platform: platform,
		Config: ocispec.ImageConfig{Env: []string{"PATH=" + Path}, Entrypoint: []string{"/pause"}, WorkingDir: "/"},
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}},
	})
	if err != nil {
		return nil, fmt.Errorf("base image: configuration: %w", err)
	}
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: put(ocispec.MediaTypeImageConfig, config),
		Layers: []ocispec.Descriptor{put(ocispec.MediaTypeImageLayer, layer)},
	})
	if err != nil {
		return nil, fmt.Errorf("base image: manifest: %w", err)
	}
	desc := put(ocispec.MediaTypeImageManifest, manifest)
	desc.Platform = &platform
	desc.Annotations = map[string]string{nameAnnotation: Ref, ocispec.AnnotationRefName: tag}
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{desc},
	})
	if err != nil {
		return nil, fmt.Errorf("base image: index: %w", err)
	}
	layout, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return nil, fmt.Errorf("base image: layout: %w", err)
	}
	return archive(append([]entry{
		{path: ocispec.ImageLayoutFile, mode: 0o644, data: layout},
		{path: ocispec.ImageIndexFile, mode: 0o644, data: index},
		{path: "blobs/", mode: 0o755}, {path: "blobs/sha256/", mode: 0o755},
	}, blobs...))
}

// archive writes members in order, owned by root, dated 1970.
func archive(members []entry) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range members {
		h := &tar.Header{Name: e.path, Mode: int64(e.mode), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
			Typeflag: tar.TypeReg, Size: int64(len(e.data))}
		switch {
		case e.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		case strings.HasSuffix(e.path, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("base image: member %s: %w", e.path, err)
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, fmt.Errorf("base image: member %s: %w", e.path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("base image: %w", err)
	}
	return buf.Bytes(), nil
}

// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	certutil "k8s.io/client-go/util/cert"

	images "github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/api/types"

	"github.com/imgbuild/imgbuild/firstboot/baseimage"
	"github.com/imgbuild/imgbuild/firstboot/containerd/containerdtest"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
)

// TestKubeletCredentials covers what kubeadm needs a kubelet and a restart for.
func TestKubeletCredentials(t *testing.T) {
	socket, server := containerdtest.New(t)
	server.Blobs["sha256:0"] = nil
	server.Images[baseimage.Ref] = &images.Image{Name: baseimage.Ref, Target: &types.Descriptor{Digest: "sha256:0"}}
	s := &State{Root: t.TempDir(), Node: kubeadmtest.Document(), Config: kubeadmtest.Config(t), Start: time.Now(), Log: slog.New(slog.DiscardHandler), Containerd: socket}
	for name, f := range map[string]func(context.Context, *State) error{"certs": certsThere, "kubeconfigs": kubeconfigsThere, "etcd": etcdPlaced, "API server": apiServerPlaced} {
		if f(t.Context(), s) == nil {
			t.Errorf("%s are there before they were made", name)
		}
	}
	for _, f := range []func(context.Context, *State) error{certs, kubeconfigs, placeEtcd, placeAPIServer, certsThere, kubeconfigsThere, etcdPlaced, apiServerPlaced} {
		if err := f(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	link := s.path(kubeadm.KubeletPEM)
	before, err := os.Readlink(link)
	if err != nil {
		t.Fatal(err)
	}
	if err := kubeconfigs(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Readlink(link); after != before {
		t.Errorf("a second run made another certificate: %s, then %s", before, after)
	}
	// A power cut between file and link: the link is missing or leads nowhere.
	if err := replaceLink(link, "/var/lib/kubelet/pki/nowhere.pem"); err != nil {
		t.Fatal(err)
	}
	if kubeconfigsThere(t.Context(), s) == nil {
		t.Error("a link to nothing passes")
	}
	// And one while the file was written.
	torn := s.path(filepath.Join(filepath.Dir(kubeadm.KubeletPEM), ".kubelet-client-2026-01-02-03-04-05.pem.new"))
	if err := os.WriteFile(torn, []byte("half a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := kubeconfigs(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := kubeconfigsThere(t.Context(), s); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(torn); err == nil {
		t.Error("half a key is left")
	}
	if st, err := os.Stat(s.path(kubeadm.KubeletDir)); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	if err := os.WriteFile(s.path(kubeadm.ManifestsDir+"/etcd.yaml"), []byte("edited"), 0o600); err != nil {
		t.Fatal(err)
	}
	if etcdPlaced(t.Context(), s) == nil {
		t.Error("an edited manifest passes")
	}
}

// TestKubeletServingCertificate compares with what the kubelet accepts at its start, and cuts
// the power between the two files.
func TestKubeletServingCertificate(t *testing.T) {
	s := &State{Root: t.TempDir(), Config: kubeadmtest.Config(t), Start: time.Now()}
	crt, key := s.path(kubeadm.KubeletDir+"/pki/kubelet.crt"), s.path(kubeadm.KubeletDir+"/pki/kubelet.key")
	write := func() {
		t.Helper()
		files, err := s.servingCertificate()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kubeadm.WriteFiles(s.Root, files...); err != nil {
			t.Fatal(err)
		}
		if usable, err := certutil.CanReadCertAndKey(crt, key); err != nil || !usable {
			t.Fatalf("the kubelet would not use the pair: %v", err)
		}
	}
	write()
	pair, err := tls.LoadX509KeyPair(crt, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := pair.Leaf.VerifyHostname(s.Config.NodeName); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(key); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v %v", st.Mode(), err)
	}
	before, _ := os.ReadFile(crt)
	write()
	if after, _ := os.ReadFile(crt); !bytes.Equal(before, after) {
		t.Error("a second run made another certificate")
	}
	if err := os.Remove(crt); err != nil {
		t.Fatal(err)
	}
	write()
	if _, err := tls.LoadX509KeyPair(crt, key); err != nil {
		t.Errorf("after half a pair: %v", err)
	}
}

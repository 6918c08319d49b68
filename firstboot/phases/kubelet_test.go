// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
)

// TestKubeletCredentials covers what kubeadm needs a kubelet and a restart for.
func TestKubeletCredentials(t *testing.T) {
	s := &State{Root: t.TempDir(), Node: kubeadmtest.Document(), Config: kubeadmtest.Config(t), Start: time.Now(), Log: slog.New(slog.DiscardHandler)}
	for name, f := range map[string]func(context.Context, *State) error{"certs": certsThere, "kubeconfigs": kubeconfigsThere, "etcd": etcdPlaced, "control plane": controlPlanePlaced} {
		if f(t.Context(), s) == nil {
			t.Errorf("%s are there before they were made", name)
		}
	}
	for _, f := range []func(context.Context, *State) error{certs, kubeconfigs, placeEtcd, placeControlPlane, certsThere, kubeconfigsThere, etcdPlaced, controlPlanePlaced} {
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
	if err := kubeconfigs(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := kubeconfigsThere(t.Context(), s); err != nil {
		t.Error(err)
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

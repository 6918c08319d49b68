// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/addons/cni"
	"github.com/imgbuild/imgbuild/firstboot/balancer"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/manifests"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/preflight"
	"github.com/imgbuild/imgbuild/firstboot/vip"
)

// The hosts file stays, without the line that first boot wrote.
const otherHosts = "127.0.0.1 localhost\n"

// bootedMachine has the files of a control plane whose first boot is over, and of its pods.
func bootedMachine(t *testing.T, mode node.PKIMode) *State {
	t.Helper()
	s := controlPlaneFiles(t, mode, time.Hour, time.Now())
	files := []kubeadm.File{balancer.Hosts([]byte(otherHosts), "api.example.com", "127.0.0.1")}
	for _, path := range []string{DoneMarker, phase.JournalPath, FollowFile, kubeadm.EtcdDataDir + "/member/wal/x", node.Path, "/etc/kubernetes/audit/policy.yaml",
		kubeadm.ManifestsDir + "/etcd.yaml", kubeadm.ManifestsDir + "/kube-vip.yaml", vip.ConfigFile, vip.WatchFile, vip.AdmittedFile, balancer.ConfigFile,
		kubeadm.KubeletDir + "/config.yaml", kubeadm.KubeletDir + "/pods/x/volume/y", manifests.KubeletExtraArgsFile, kubeadm.BootstrapConf,
		cni.ConfigFile, cni.NetworkFile, cni.SubnetFile, "/var/lib/cni/x"} {
		files = append(files, kubeadm.File{Path: path, Mode: 0o600, Data: []byte("x")})
	}
	if _, err := kubeadm.WriteFiles(s.Root, files...); err != nil {
		t.Fatal(err)
	}
	if err := s.adopt(&Membership{Joined: true, ID: 1, Members: []node.Peer{s.self()}}); err != nil {
		t.Fatal(err)
	}
	s.Membership, s.Log = nil, slog.New(slog.DiscardHandler)
	mountList(t, s.Root, "/", kubeadm.KubeletDir)
	return s
}

// like returns another machine with the same files.
func like(t *testing.T, s *State) *State {
	t.Helper()
	other := *s
	other.Root = t.TempDir()
	if err := os.CopyFS(other.Root, os.DirFS(s.Root)); err != nil {
		t.Fatal(err)
	}
	return &other
}

// filesOf lists the files of a machine.
func filesOf(t *testing.T, s *State) (names []string) {
	t.Helper()
	err := filepath.WalkDir(s.Root, func(path string, d fs.DirEntry, err error) error {
		if name := strings.TrimPrefix(path, s.Root); err == nil && !d.IsDir() && !strings.HasPrefix(name, "/proc/") {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// delivered is what of bootedMachine a reset leaves.
func delivered(mode node.PKIMode) []string {
	names := []string{balancer.HostsFile, "/etc/kubernetes/audit/policy.yaml", node.Path}
	if mode == node.PKIShared {
		for _, f := range addons.SharedFiles {
			names = append(names, kubeadm.PKIDir+"/"+f)
		}
	}
	slices.Sort(names)
	return names
}

func TestForget(t *testing.T) {
	for _, mode := range []node.PKIMode{node.PKIGenerate, node.PKIShared} {
		s := bootedMachine(t, mode)
		for range 2 {
			if err := Forget(s); err != nil {
				t.Fatal(err)
			}
			if got := filesOf(t, s); !slices.Equal(got, delivered(mode)) {
				t.Errorf("%s: left is %q, want %q", mode, got, delivered(mode))
			}
			if text := content(t, s, balancer.HostsFile); text != otherHosts {
				t.Errorf("%s is %q", balancer.HostsFile, text)
			}
		}
	}
}

// A volume that is still mounted is not first boot's to remove, and nothing else is either: the
// machine may be wanted again.
func TestForgetKeepsWhatIsMounted(t *testing.T) {
	s := bootedMachine(t, node.PKIGenerate)
	volume := kubeadm.KubeletDir + "/pods/x/volume"
	before := filesOf(t, s)
	for _, c := range []struct {
		problem string
		mounts  func()
		want    string
	}{
		{"a mount", func() { mountList(t, s.Root, "/", kubeadm.KubeletDir, volume) }, "still mounted: " + volume},
		{"no list", func() {
			if err := os.Remove(s.path("/proc/self/mountinfo")); err != nil {
				t.Fatal(err)
			}
		}, "/proc/self/mountinfo"},
	} {
		c.mounts()
		if err := Forget(s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.problem, err)
		}
		if after := filesOf(t, s); !slices.Equal(before, after) {
			t.Errorf("%s: left is %q", c.problem, after)
		}
	}
}

// With an external authority nothing that was delivered can be made again.
func TestForgetKeepsDeliveredCertificates(t *testing.T) {
	s := bootedMachine(t, node.PKIExternal)
	pem := filepath.Dir(kubeadm.KubeletPEM) + "/kubelet-client-x.pem"
	if _, err := kubeadm.WriteFiles(s.Root, kubeadm.File{Path: pem, Mode: 0o600, Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if err := Forget(s); err != nil {
		t.Fatal(err)
	}
	for f, want := range map[string]bool{pem: true, kubeadm.PKIDir + "/apiserver.crt": true, kubeadm.Dir + "/kubelet.conf": true, kubeadm.BootstrapConf: false,
		kubeadm.KubeletDir + "/config.yaml": false, kubeadm.KubeletDir + "/pods": false} {
		if s.absent(f) == want {
			t.Errorf("%s is there: %v, want %v", f, !want, want)
		}
	}
}

// TestForgetIsCutOff switches the machine off after each step of Forget. What is left can be
// reset again; and first boot either begins anew or does not begin.
func TestForgetIsCutOff(t *testing.T) {
	for _, mode := range []node.PKIMode{node.PKIGenerate, node.PKIShared, node.PKIExternal} {
		booted := bootedMachine(t, mode)
		whole := like(t, booted)
		if err := Forget(whole); err != nil {
			t.Fatal(err)
		}
		var left [][]string
		for last := range forgetting {
			t.Run(string(mode)+"/"+forgetting[last].what, func(t *testing.T) {
				s := like(t, booted)
				for _, step := range forgetting[:last+1] {
					if err := step.do(s); err != nil {
						t.Fatal(err)
					}
				}
				left = append(left, filesOf(t, s))
				again := like(t, s)
				mayStart(t, s)
				firstBootAfterCut(t, s)
				if err := Forget(again); err != nil {
					t.Error(err)
				}
				if got, want := filesOf(t, again), filesOf(t, whole); !slices.Equal(got, want) {
					t.Errorf("another reset leaves %q, want %q", got, want)
				}
			})
		}
		// The order itself: each of these goes before the next.
		for _, path := range []string{DoneMarker, kubeadm.ManifestsDir + "/etcd.yaml", kubeadm.EtcdDataDir + "/member/wal/x", MembershipFile, kubeadm.KubeletDir + "/config.yaml"} {
			gone := slices.IndexFunc(left, func(files []string) bool { return !slices.Contains(files, path) })
			if gone < 0 || len(left) < 2 || !slices.Contains(left[0], path) {
				t.Fatalf("%s: %s is not removed", mode, path)
			}
			left = left[gone:]
			if !slices.Contains(left[0], phase.JournalPath) {
				t.Errorf("%s: the journal is gone before %s", mode, path)
			}
		}
	}
}

// mayStart looks at what starts with the machine, before first boot does.
func mayStart(t *testing.T, s *State) {
	t.Helper()
	if !s.absent(kubeadm.ManifestsDir+"/etcd.yaml") && (!s.etcdHasData() || s.absent(MembershipFile)) {
		t.Error("etcd starts, without its data or what is known about it")
	}
	if !s.absent(kubeadm.KubeletDir + "/config.yaml") {
		if err := errors.Join(certsThere(t.Context(), s), kubeconfigsThere(t.Context(), s)); err != nil {
			t.Errorf("the kubelet starts: %v", err)
		}
	}
}

// firstBootAfterCut does of first boot what takes no cluster.
func firstBootAfterCut(t *testing.T, s *State) {
	t.Helper()
	m := preflight.Machine{Root: s.Root, Node: s.Node, Start: s.Start, Now: time.Now, Warn: func(string, error) {}}
	err := m.Check()
	refuses := err != nil && strings.Contains(err.Error(), "etcd-data: ")
	resumes := !s.absent(kubeadm.ManifestsDir + "/etcd.yaml")
	if refuses != (s.etcdHasData() && !resumes) {
		t.Errorf("first boot refuses to begin: %v, with etcd's data: %v", refuses, s.etcdHasData())
	}
	if s.etcdHasData() { // it waits or refuses; a reset has to be able to ask etcd
		c, err := s.dialEtcd(t.Context(), s.self())
		if err != nil || !s.counted() {
			t.Errorf("a reset cannot leave: %v", err)
			return
		}
		_ = c.Close()
		return
	}
	if err := errors.Join(certs(t.Context(), s), kubeconfigs(t.Context(), s), certsThere(t.Context(), s), kubeconfigsThere(t.Context(), s)); err != nil {
		t.Error(err)
	}
}

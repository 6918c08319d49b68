// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/addons/cni"
	"github.com/imgbuild/imgbuild/firstboot/balancer"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/manifests"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/vip"
)

// forgetting is what Forget does, in this order. A power cut after a step leaves:
//
//   - marker: all the rest. Etcd and first boot wait for a member that may be out of the
//     cluster; a reset completes.
//   - manifests: etcd's data with all that belongs to it, and nothing that starts etcd. First
//     boot refuses to begin beside the data; a reset completes.
//   - etcd: no data, so first boot decides anew whether to join. What else is left it checks,
//     and makes again what does not fit. A reset completes, too.
//   - membership: the same. Without data a place is asked for again, whatever it says.
//   - kubelet: the same, and the kubelet is not started at boot, with logins of a cluster whose
//     authorities may be gone next.
//   - logins, keys, others: the same, with less to check.
//   - journal: what there was before first boot. Until then first boot refuses another document.
var forgetting = []struct {
	what string
	do   func(*State) error
}{
	{"mounts", (*State).nothingMounted},
	{"marker", cleared(DoneMarker)},
	{"manifests", cleared(kubeadm.ManifestsDir)},
	{"etcd", cleared(kubeadm.EtcdDataDir)},
	{"membership", cleared(MembershipFile)},
	{"kubelet", (*State).forgetKubelet},
	{"logins", (*State).forgetLogins},
	{"keys", (*State).forgetKeys},
	{"name", (*State).forgetName},
	{"others", cleared(FollowFile, vip.ConfigFile, vip.WatchFile, vip.AdmittedFile, balancer.ConfigFile, manifests.KubeletExtraArgsFile,
		cni.ConfigFile, cni.NetworkFile, filepath.Dir(cni.SubnetFile), "/var/lib/cni")},
	{"journal", cleared(phase.JournalPath)},
}

// Forget removes what first boot made. What Ignition delivered stays: the node document, and
// with pki.mode shared or external the files that this machine cannot make itself. It ends at
// the first error, so that what is left is what a power cut would leave.
func Forget(s *State) error {
	for _, step := range forgetting {
		if err := step.do(s); err != nil {
			return fmt.Errorf("removing what first boot made (%s): %w", step.what, err)
		}
	}
	return nil
}

// nothingMounted says what is mounted where files will be removed: it is not first boot's.
func (s *State) nothingMounted() error {
	points, err := mountsBelow(s.Root, kubeadm.KubeletDir)
	if err == nil && len(points) > 0 {
		err = fmt.Errorf("still mounted: %s; unmount it, or its content would be removed", strings.Join(points, ", "))
	}
	return err
}

// forgetKubelet removes what the kubelet keeps, except a certificate that was delivered.
func (s *State) forgetKubelet() error {
	if s.Node.PKI.Mode == node.PKIExternal {
		return s.clear(kubeadm.KubeletDir, filepath.Base(filepath.Dir(kubeadm.KubeletPEM)))
	}
	return s.clear(kubeadm.KubeletDir)
}

// forgetLogins removes the kubeconfigs, except those that were delivered.
func (s *State) forgetLogins() error {
	if s.Node.PKI.Mode == node.PKIExternal {
		return s.clear(kubeadm.BootstrapConf)
	}
	conf, err := filepath.Glob(s.path(kubeadm.Dir + "/*.conf"))
	for _, f := range conf {
		err = errors.Join(err, s.clear(kubeadm.Dir+"/"+filepath.Base(f)))
	}
	return err
}

// forgetKeys removes the keys and certificates, except those that were delivered.
func (s *State) forgetKeys() error {
	keep := map[string]bool{}
	switch {
	case s.Node.PKI.Mode == node.PKIExternal:
		return nil
	case s.Node.PKI.Mode == node.PKIShared && s.Node.Role == node.ControlPlane:
		for _, f := range addons.SharedFiles {
			keep[kubeadm.PKIDir+"/"+f] = true
		}
	}
	return s.prune(kubeadm.PKIDir, keep)
}

// forgetName takes the line out of /etc/hosts that leads the endpoint's name here.
func (s *State) forgetName() error {
	old, err := os.ReadFile(s.path(balancer.HostsFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	data, ours := balancer.WithoutHosts(old)
	if !ours {
		return nil
	}
	_, err = kubeadm.WriteFiles(s.Root, kubeadm.File{Path: balancer.HostsFile, Mode: 0o644, Data: data})
	return err
}

func cleared(paths ...string) func(*State) error {
	return func(s *State) (err error) {
		for _, p := range paths {
			err = errors.Join(err, s.clear(p))
		}
		return err
	}
}

// clear removes a file, or what is in a directory except some names, and makes that survive a
// power cut. The directory stays: it may be a mount point.
func (s *State) clear(path string, except ...string) error {
	full := s.path(path)
	st, err := os.Lstat(full)
	if err != nil || !st.IsDir() {
		return s.remove(path)
	}
	entries, err := os.ReadDir(full)
	for _, e := range entries {
		if !slices.Contains(except, e.Name()) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(full, e.Name())))
		}
	}
	return errors.Join(err, kubeadm.SyncDir(full))
}

// remove removes a file and makes that survive a power cut.
func (s *State) remove(path string) error {
	err := os.Remove(s.path(path))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return kubeadm.SyncDir(filepath.Dir(s.path(path)))
}

// prune removes the files below dir that are not kept.
func (s *State) prune(dir string, keep map[string]bool) error {
	entries, err := os.ReadDir(s.path(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		switch p := dir + "/" + e.Name(); {
		case e.IsDir():
			err = errors.Join(err, s.prune(p, keep))
		case !keep[p]:
			err = errors.Join(err, os.Remove(s.path(p)))
		}
	}
	return errors.Join(err, kubeadm.SyncDir(s.path(dir)))
}

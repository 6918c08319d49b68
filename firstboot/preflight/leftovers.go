// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/balancer"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// ports are those the node will use and nothing of its own uses yet. What an earlier run
// started may have been started again at boot.
func (m *Machine) ports() []int {
	var out []int
	if m.absent(kubeadm.KubeletDir + "/config.yaml") {
		out = append(out, kubeadm.KubeletHealthPort, 10250)
	}
	if m.Node.Role == node.ControlPlane && !m.resumed() {
		out = append(out, int(m.Node.APIServer.Port), kubeadm.EtcdClientPort, kubeadm.EtcdPeerPort,
			kubeadm.EtcdMetricsPort, kubeadm.ControllerManagerPort, kubeadm.SchedulerPort)
	}
	if balancer.Wanted(m.Node) && m.absent(balancer.ConfigFile) {
		if _, port, err := net.SplitHostPort(m.Node.Cluster.Endpoint); err == nil {
			p, _ := strconv.Atoi(port) // validated with the document
			out = append(out, p)
		}
	}
	return out
}

// portsFree tries to bind the ports the node will use.
func portsFree(m *Machine) error {
	take := m.Listen
	switch {
	case take != nil:
	case m.Root == "/":
		take = listen
	default:
		return nil
	}
	var errs []error
	for _, p := range m.ports() {
		if err := take(p); err != nil {
			errs = append(errs, fmt.Errorf("port %d is in use; stop what listens there: %w", p, err))
		}
	}
	return errors.Join(errs...)
}

func listen(port int) error {
	l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return err
	}
	return l.Close()
}

// etcdEmpty refuses data of another cluster: etcd would start it instead of ours.
func etcdEmpty(m *Machine) error {
	if m.Node.Role != node.ControlPlane || m.resumed() {
		return nil
	}
	entries, err := os.ReadDir(m.path(kubeadm.EtcdDataDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// A file system of its own begins with a directory that mkfs made.
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return e.IsDir() && e.Name() == "lost+found" })
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty: it holds data of an earlier cluster; wipe the state partition to begin again", kubeadm.EtcdDataDir)
	}
	return nil
}

// userManifests checks the files before anything is started that would wait for their content.
func userManifests(m *Machine) error {
	if m.Node.Role != node.ControlPlane {
		return nil
	}
	_, err := addons.ReadManifests(m.Root, m.Node.Network.Manifests)
	return err
}

// SPDX-License-Identifier: Apache-2.0

// Package preflight looks at a machine before anything is started on it, and says together what
// keeps it from running Kubernetes.
package preflight

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/host"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
)

// Machine is what is looked at.
type Machine struct {
	// Root is the directory the machine's files are below.
	Root string
	// Node is the document. Among the hosts of a shared one, Check finds this machine's.
	Node *node.Node
	// Start is the moment of the run. Check moves it when the clock has been set since.
	Start time.Time
	// Now is the clock.
	Now func() time.Time
	// Warn is told about what ought to be otherwise and does not keep the machine from working.
	Warn func(condition string, problem error)
	// Free says how many bytes the file system of a path can take; nil asks the kernel.
	Free func(path string) (uint64, error)
	// Listen takes a TCP port for a moment; nil asks the kernel where Root is "/". Elsewhere
	// nobody has ports.
	Listen func(port int) error
}

// condition is one named thing that must hold. Means is what it asks for, for the reference. Warn
// makes its absence a warning; a lasting one holds or does not hold for as long as the machine runs.
type condition struct {
	name, means   string
	check         func(*Machine) error
	warn, lasting bool
}

var conditions = []condition{
	// before what looks at the machine's name
	{name: "host", check: recognised, means: "where a document serves several machines, one of its hosts matches this one"},
	{name: "role", check: roleAllowed, lasting: true, means: "the image can take the role"},
	{name: "clock", check: clockSet, means: "the clock is not before the cluster's first rendering (`cluster.created`, five minutes are allowed for), nor before a delivered authority is valid"},
	{name: "swap", check: swapOff, means: "no swap is on"},
	{name: "cgroups", check: cgroupV2, lasting: true, means: "control groups are version 2, with the controllers cpu, cpuset, memory and pids"},
	{name: "kernel", check: kernelParts, means: "overlay is loaded or built in; with flannel br_netfilter, too, and vxlan can be loaded"},
	{name: "kube-proxy", check: proxyParts, means: "what the mode of kube-proxy needs can be loaded; ipset is there for ipvs"},
	{name: "ip-forward", check: ipForward, means: "the kernel forwards IPv4"},
	{name: "memory", check: enoughMemory, lasting: true, means: "a control plane has 1700 MiB, a worker 700 MiB, as the kernel counts them: machines of 2 and 1 GiB"},
	{name: "processors", check: enoughCPUs, warn: true, means: "a control plane has two"},
	{name: "disk", check: enoughDisk, means: "1 GiB is free in `/var`"},
	{name: "hostname", check: hostnameUsable, means: "the node has a name of its own that Kubernetes takes; not localhost"},
	{name: "machine-id", check: machineID, means: "`/etc/machine-id` is initialised"},
	{name: "product-uuid", check: productUUID, warn: true, means: "the firmware says a product UUID that is not zero"},
	{name: "ports", check: portsFree, means: "nobody listens where the kubelet, the control plane or the balancer will"},
	{name: "etcd-data", check: etcdEmpty, means: "a control plane has no etcd data of another cluster"},
	{name: "manifests", check: userManifests, means: "every file of `network.manifests` is there and holds objects"},
}

// Check looks at every condition and reports all that do not hold together. The error is
// phase.ErrPermanent if one of them will not hold however often it is looked at.
func (m *Machine) Check() error {
	var errs []error
	for _, c := range conditions {
		err := c.check(m)
		switch {
		case err == nil:
		case c.warn:
			m.Warn(c.name, err)
		default:
			if c.lasting {
				err = phase.Permanent(err)
			}
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	return errors.Join(errs...)
}

func (m *Machine) path(p string) string { return filepath.Join(m.Root, p) }

// absent says that there is no such file.
func (m *Machine) absent(path string) bool {
	_, err := os.Lstat(m.path(path))
	return errors.Is(err, os.ErrNotExist)
}

// resumed says that an earlier run already placed manifests: their ports and data are ours.
func (m *Machine) resumed() bool {
	entries, err := os.ReadDir(m.path(kubeadm.ManifestsDir))
	return err == nil && len(entries) > 0
}

// recognised finds the host in the document. Interfaces may appear after first boot began.
func recognised(m *Machine) error { return host.Recognise(m.Root, m.Node) }

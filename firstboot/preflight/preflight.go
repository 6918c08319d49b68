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
}

// condition is one named thing that must hold. Warn makes its absence a warning; a lasting one
// holds or does not hold for as long as the machine runs.
type condition struct {
	name          string
	check         func(*Machine) error
	warn, lasting bool
}

var conditions = []condition{
	{name: "host", check: recognised}, // before what looks at the machine's name
	{name: "role", check: roleAllowed, lasting: true},
	{name: "clock", check: clockSet},
	{name: "swap", check: swapOff},
	{name: "cgroups", check: cgroupV2, lasting: true},
	{name: "kernel", check: kernelParts},
	{name: "kube-proxy", check: proxyParts},
	{name: "ip-forward", check: ipForward},
	{name: "memory", check: enoughMemory, lasting: true},
	{name: "processors", check: enoughCPUs, warn: true},
	{name: "disk", check: enoughDisk},
	{name: "hostname", check: hostnameUsable},
	{name: "machine-id", check: machineID},
	{name: "product-uuid", check: productUUID, warn: true},
	{name: "ports", check: portsFree},
	{name: "etcd-data", check: etcdEmpty},
	{name: "manifests", check: userManifests},
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

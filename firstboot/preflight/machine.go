// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// RolesFile lists the roles an image may take, one per line. Without it any role goes.
const RolesFile = "/usr/lib/imgbuild/roles"

// The least a machine needs, in bytes and processors. Those of a control plane are kubeadm's own:
// 1700 MiB are what firmware and kernel leave of 2 GiB. It has none for a worker, whose kubelet
// evicts pods when 100 MiB are left: 700 MiB are what a machine of 1 GiB has at least. The disk
// holds etcd, logs and images.
const (
	minMemory       = 1700 << 20
	minWorkerMemory = 700 << 20
	minCPUs         = 2
	minDisk         = 1 << 30
)

// builtAfter is a moment that has certainly passed. A clock before it was never set, and
// certificates made by it would be valid for nobody else.
var builtAfter = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func roleAllowed(m *Machine) error {
	text, err := os.ReadFile(m.path(RolesFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if roles := strings.Fields(string(text)); !slices.Contains(roles, string(m.Node.Role)) {
		return fmt.Errorf("this image cannot be a %s; it can be: %s; boot the image of the role, or change role in the node document", m.Node.Role, strings.Join(roles, ", "))
	}
	return nil
}

// clockSet holds the clock against moments that have passed: the document was rendered, and an
// authority that was delivered made, before the machine booted with them. Whoever did that may
// have had a clock that is a little ahead, which certificates allow for, too.
func clockSet(m *Machine) error {
	if m.before(builtAfter) {
		return fmt.Errorf("the clock says %s; set it, or let time synchronisation reach a server", moment(m.Start))
	}
	if created := m.Node.Cluster.CreatedAt(); m.before(created.Add(-pki.Backdate)) {
		return fmt.Errorf("the clock says %s, and the cluster was first rendered at %s; set the clock, or let time synchronisation reach a server",
			moment(m.Start), moment(created))
	}
	text, err := os.ReadFile(m.path(kubeadm.PKIDir + "/ca.crt"))
	if err != nil {
		return nil //nolint:nilerr // none was delivered
	}
	ca, err := pki.ParseCert(text)
	if err != nil {
		return fmt.Errorf("%s/ca.crt: %w", kubeadm.PKIDir, err)
	}
	if m.before(ca.NotBefore) {
		return fmt.Errorf("the clock says %s, and the cluster's authority was made at %s; set the clock, or let time synchronisation reach a server",
			moment(m.Start), moment(ca.NotBefore))
	}
	return nil
}

// before says whether the clock says less than t. It may have been set since it was read, so it
// is read again.
func (m *Machine) before(t time.Time) bool {
	if m.Start.Before(t) {
		m.Start = m.Now()
	}
	return m.Start.Before(t)
}

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func enoughMemory(m *Machine) error {
	f, err := os.Open(m.path("/proc/meminfo"))
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		field := strings.Fields(lines.Text())
		if len(field) < 2 || field[0] != "MemTotal:" {
			continue
		}
		kib, err := strconv.ParseInt(field[1], 10, 64)
		if err != nil {
			return err
		}
		who, least := "worker", int64(minWorkerMemory)
		if m.Node.Role == node.ControlPlane {
			who, least = "control plane", minMemory
		}
		if kib<<10 < least {
			return fmt.Errorf("%d MiB of memory, a %s needs %d MiB; give the machine more", kib>>10, who, least>>20)
		}
		return nil
	}
	return errors.New("/proc/meminfo does not say how much memory there is")
}

func enoughCPUs(m *Machine) error {
	if n := runtime.NumCPU(); m.Node.Role == node.ControlPlane && n < minCPUs {
		return fmt.Errorf("%d processor, a control plane should have %d; give the machine more", n, minCPUs)
	}
	return nil
}

func enoughDisk(m *Machine) error {
	left := m.Free
	if left == nil {
		left = free
	}
	n, err := left(m.path("/var"))
	if err != nil {
		return fmt.Errorf("/var: %w", err)
	}
	if n < minDisk {
		return fmt.Errorf("%d MiB free in /var, at least %d MiB are needed; use a larger disk", n>>20, minDisk>>20)
	}
	return nil
}

func free(path string) (uint64, error) {
	var st unix.Statfs_t
	err := unix.Statfs(path, &st)
	return st.Bavail * uint64(st.Bsize), err
}

var hostnameForm = regexp.MustCompile(`^[a-zA-Z0-9]([-a-zA-Z0-9.]{0,251}[a-zA-Z0-9])?$`)

func hostnameUsable(m *Machine) error {
	name := m.Node.Node.Name
	if name == "" {
		var err error
		if name, err = os.Hostname(); err != nil {
			return err
		}
		if name == "localhost" {
			return errors.New("the host name is localhost, which every unnamed machine has; set node.name or deliver /etc/hostname")
		}
	}
	if !hostnameForm.MatchString(name) {
		return fmt.Errorf("%q cannot name a node; set node.name to lower-case letters, digits, dashes and dots", name)
	}
	return nil
}

func machineID(m *Machine) error {
	text, err := os.ReadFile(m.path("/etc/machine-id"))
	if err != nil {
		return err
	}
	if id := strings.TrimSpace(string(text)); len(id) != 32 {
		return errors.New("/etc/machine-id is not initialised; addresses by DHCP and the pod network depend on it; systemd writes it when the file is empty or absent")
	}
	return nil
}

func productUUID(m *Machine) error {
	text, err := os.ReadFile(m.path("/sys/class/dmi/id/product_uuid"))
	if err != nil {
		return fmt.Errorf("no product UUID: %w", err)
	}
	if strings.Trim(strings.TrimSpace(string(text)), "0-") == "" {
		return errors.New("the product UUID is all zeros, so machines cannot be told apart by it")
	}
	return nil
}

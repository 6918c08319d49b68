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

// The least a machine needs. Memory and processors are kubeadm's own limits for a control
// plane; the disk holds etcd, logs and images.
const (
	minMemory = 1700 << 20 // bytes
	minCPUs   = 2
	minDisk   = 1 << 30 // bytes
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

func clockSet(m *Machine) error {
	if m.Start.Before(builtAfter) {
		if m.Start = m.Now(); m.Start.Before(builtAfter) {
			return fmt.Errorf("the clock says %s; set it, or let time synchronisation reach a server", m.Start.UTC().Format(time.RFC3339))
		}
	}
	// An authority that was delivered was made before this moment. Time may pass, so the
	// clock is read again.
	text, err := os.ReadFile(m.path(kubeadm.PKIDir + "/ca.crt"))
	if err != nil {
		return nil //nolint:nilerr // none was delivered
	}
	ca, err := pki.ParseCert(text)
	if err != nil {
		return fmt.Errorf("%s/ca.crt: %w", kubeadm.PKIDir, err)
	}
	if m.Start.Before(ca.NotBefore) {
		if now := m.Now(); now.After(ca.NotBefore) {
			m.Start = now
			return nil
		}
		return fmt.Errorf("the clock says %s, and the cluster's authority was made at %s; set the clock, or let time synchronisation reach a server",
			m.Start.UTC().Format(time.RFC3339), ca.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

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
		if m.Node.Role == node.ControlPlane && kib<<10 < minMemory {
			return fmt.Errorf("%d MiB of memory, a control plane needs %d MiB; give the machine more", kib>>10, minMemory>>20)
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
	var st unix.Statfs_t
	if err := unix.Statfs(m.path("/var"), &st); err != nil {
		return fmt.Errorf("/var: %w", err)
	}
	return enough(st.Bavail * uint64(st.Bsize))
}

// enough judges how many bytes are free.
func enough(free uint64) error {
	if free < minDisk {
		return fmt.Errorf("%d MiB free in /var, at least %d MiB are needed; use a larger disk", free>>20, minDisk>>20)
	}
	return nil
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

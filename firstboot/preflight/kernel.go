// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

func swapOff(m *Machine) error {
	text, err := os.ReadFile(m.path("/proc/swaps"))
	if err != nil {
		return nil //nolint:nilerr // a kernel without swap has no such file
	}
	if lines := strings.Split(strings.TrimSpace(string(text)), "\n"); len(lines) > 1 {
		return fmt.Errorf("swap is on (%s) and the kubelet refuses to start with it; turn it off with swapoff and remove it from fstab or its .swap unit", strings.Fields(lines[1])[0])
	}
	return nil
}

func cgroupV2(m *Machine) error {
	text, err := os.ReadFile(m.path("/sys/fs/cgroup/cgroup.controllers"))
	if err != nil {
		return errors.New("the unified cgroup hierarchy (v2) is not mounted, and the kubelet needs it; remove systemd.unified_cgroup_hierarchy=0 and cgroup_no_v1 from the kernel's command line")
	}
	have := strings.Fields(string(text))
	for _, want := range []string{"cpu", "cpuset", "memory", "pids"} {
		if !slices.Contains(have, want) {
			return fmt.Errorf("the kernel offers no %s controller (it has %s); remove cgroup_disable from the kernel's command line", want, strings.Join(have, ", "))
		}
	}
	return nil
}

// kernelParts looks for what containers and the pod network need, built in or loaded.
func kernelParts(m *Machine) error {
	filesystems, err := os.ReadFile(m.path("/proc/filesystems"))
	if err != nil {
		return err
	}
	var missing []string
	if !bytes.Contains(filesystems, []byte("\toverlay\n")) {
		missing = append(missing, "overlay")
	}
	if m.Node.Network.Provider == node.NetworkFlannel {
		if _, err := os.Stat(m.path("/proc/sys/net/bridge/bridge-nf-call-iptables")); err != nil {
			missing = append(missing, "br_netfilter")
		}
	}
	if missing != nil {
		return fmt.Errorf("kernel modules are not loaded: %s; list them in modules-load.d", strings.Join(missing, ", "))
	}
	return nil
}

func ipForward(m *Machine) error {
	text, err := os.ReadFile(m.path("/proc/sys/net/ipv4/ip_forward"))
	if err != nil {
		return err
	}
	if v := strings.TrimSpace(string(text)); v != "1" {
		return fmt.Errorf("net.ipv4.ip_forward is %s, not 1; set it in sysctl.d", v)
	}
	return nil
}

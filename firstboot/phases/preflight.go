// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/firstboot/balancer"
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

// condition is one named thing that must hold. Warn makes its absence a warning.
type condition struct {
	name  string
	check func(*State) error
	warn  bool
}

var machineConditions = []condition{
	{name: "host", check: recognised}, // before what looks at the machine's name
	{name: "role", check: roleAllowed},
	{name: "clock", check: clockSet},
	{name: "swap", check: swapOff},
	{name: "cgroups", check: cgroupV2},
	{name: "kernel", check: kernelParts},
	{name: "ip-forward", check: ipForward},
	{name: "memory", check: enoughMemory},
	{name: "processors", check: enoughCPUs, warn: true},
	{name: "disk", check: enoughDisk},
	{name: "hostname", check: hostnameUsable},
	{name: "machine-id", check: machineID},
	{name: "product-uuid", check: productUUID, warn: true},
	{name: "ports", check: portsFree},
	{name: "etcd-data", check: etcdEmpty},
	{name: "manifests", check: userManifests},
}

// preflight looks at every condition and reports all that do not hold together.
func preflight(_ context.Context, s *State) error {
	var errs []error
	for _, c := range s.conditions {
		err := c.check(s)
		switch {
		case err == nil:
		case c.warn:
			s.Log.Warn("preflight", "condition", c.name, "problem", err)
		default:
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	return errors.Join(errs...)
}

// resumed says that an earlier run already placed manifests: their ports and data are ours.
func resumed(s *State) bool {
	entries, err := os.ReadDir(s.path(kubeadm.ManifestsDir))
	return err == nil && len(entries) > 0
}

func roleAllowed(s *State) error {
	text, err := os.ReadFile(s.path(RolesFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if roles := strings.Fields(string(text)); !slices.Contains(roles, string(s.Node.Role)) {
		return fmt.Errorf("this image cannot be a %s; it can be: %s; boot the image of the role, or change role in the node document", s.Node.Role, strings.Join(roles, ", "))
	}
	return nil
}

func clockSet(s *State) error {
	if s.Start.Before(builtAfter) {
		if s.Start = s.now(); s.Start.Before(builtAfter) {
			return fmt.Errorf("the clock says %s; set it, or let time synchronisation reach a server", s.Start.UTC().Format(time.RFC3339))
		}
	}
	// An authority that was delivered was made before this moment. Time may pass, so the
	// clock is read again.
	text, err := os.ReadFile(s.path(kubeadm.PKIDir + "/ca.crt"))
	if err != nil {
		return nil //nolint:nilerr // none was delivered
	}
	ca, err := pki.ParseCert(text)
	if err != nil {
		return fmt.Errorf("%s/ca.crt: %w", kubeadm.PKIDir, err)
	}
	if s.Start.Before(ca.NotBefore) {
		if now := s.now(); now.After(ca.NotBefore) {
			s.Start = now
			return nil
		}
		return fmt.Errorf("the clock says %s, and the cluster's authority was made at %s; set the clock, or let time synchronisation reach a server",
			s.Start.UTC().Format(time.RFC3339), ca.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

func swapOff(s *State) error {
	text, err := os.ReadFile(s.path("/proc/swaps"))
	if err != nil {
		return nil //nolint:nilerr // a kernel without swap has no such file
	}
	if lines := strings.Split(strings.TrimSpace(string(text)), "\n"); len(lines) > 1 {
		return fmt.Errorf("swap is on (%s) and the kubelet refuses to start with it; turn it off with swapoff and remove it from fstab or its .swap unit", strings.Fields(lines[1])[0])
	}
	return nil
}

func cgroupV2(s *State) error {
	text, err := os.ReadFile(s.path("/sys/fs/cgroup/cgroup.controllers"))
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
func kernelParts(s *State) error {
	filesystems, err := os.ReadFile(s.path("/proc/filesystems"))
	if err != nil {
		return err
	}
	var missing []string
	if !bytes.Contains(filesystems, []byte("\toverlay\n")) {
		missing = append(missing, "overlay")
	}
	if s.Node.Network.Provider == node.NetworkFlannel {
		if _, err := os.Stat(s.path("/proc/sys/net/bridge/bridge-nf-call-iptables")); err != nil {
			missing = append(missing, "br_netfilter")
		}
	}
	if missing != nil {
		return fmt.Errorf("kernel modules are not loaded: %s; list them in modules-load.d", strings.Join(missing, ", "))
	}
	return nil
}

func ipForward(s *State) error {
	text, err := os.ReadFile(s.path("/proc/sys/net/ipv4/ip_forward"))
	if err != nil {
		return err
	}
	if v := strings.TrimSpace(string(text)); v != "1" {
		return fmt.Errorf("net.ipv4.ip_forward is %s, not 1; set it in sysctl.d", v)
	}
	return nil
}

func enoughMemory(s *State) error {
	f, err := os.Open(s.path("/proc/meminfo"))
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
		if s.Node.Role == node.ControlPlane && kib<<10 < minMemory {
			return fmt.Errorf("%d MiB of memory, a control plane needs %d MiB; give the machine more", kib>>10, minMemory>>20)
		}
		return nil
	}
	return errors.New("/proc/meminfo does not say how much memory there is")
}

func enoughCPUs(s *State) error {
	if n := runtime.NumCPU(); s.Node.Role == node.ControlPlane && n < minCPUs {
		return fmt.Errorf("%d processor, a control plane should have %d; give the machine more", n, minCPUs)
	}
	return nil
}

func enoughDisk(s *State) error {
	var st unix.Statfs_t
	if err := unix.Statfs(s.path("/var"), &st); err != nil {
		return fmt.Errorf("/var: %w", err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < minDisk {
		return fmt.Errorf("%d MiB free in /var, at least %d MiB are needed; use a larger disk", free>>20, minDisk>>20)
	}
	return nil
}

var hostnameForm = regexp.MustCompile(`^[a-zA-Z0-9]([-a-zA-Z0-9.]{0,251}[a-zA-Z0-9])?$`)

func hostnameUsable(s *State) error {
	name := s.Node.Node.Name
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

func machineID(s *State) error {
	text, err := os.ReadFile(s.path("/etc/machine-id"))
	if err != nil {
		return err
	}
	if id := strings.TrimSpace(string(text)); len(id) != 32 {
		return errors.New("/etc/machine-id is not initialised; addresses by DHCP and the pod network depend on it; systemd writes it when the file is empty or absent")
	}
	return nil
}

func productUUID(s *State) error {
	text, err := os.ReadFile(s.path("/sys/class/dmi/id/product_uuid"))
	if err != nil {
		return fmt.Errorf("no product UUID: %w", err)
	}
	if strings.Trim(strings.TrimSpace(string(text)), "0-") == "" {
		return errors.New("the product UUID is all zeros, so machines cannot be told apart by it")
	}
	return nil
}

// ports are those the node will use and nothing of its own uses yet. What an earlier run
// started may have been started again at boot.
func ports(s *State) []int {
	var out []int
	if s.absent(kubeadm.KubeletDir + "/config.yaml") {
		out = append(out, kubeadm.KubeletHealthPort, 10250)
	}
	if s.Node.Role == node.ControlPlane && !resumed(s) {
		out = append(out, int(s.Node.APIServer.Port), kubeadm.EtcdClientPort, kubeadm.EtcdPeerPort,
			kubeadm.EtcdMetricsPort, kubeadm.ControllerManagerPort, kubeadm.SchedulerPort)
	}
	if balancer.Wanted(s.Node) && s.absent(balancer.ConfigFile) {
		if _, port, err := net.SplitHostPort(s.Node.Cluster.Endpoint); err == nil {
			p, _ := strconv.Atoi(port) // validated with the document
			out = append(out, p)
		}
	}
	return out
}

// absent says that there is no such file.
func (s *State) absent(path string) bool {
	_, err := os.Lstat(s.path(path))
	return errors.Is(err, os.ErrNotExist)
}

// portsFree tries to bind the ports the node will use.
func portsFree(s *State) error {
	if s.Root != "/" {
		return nil
	}
	return free(ports(s))
}

func free(ports []int) error {
	var errs []error
	for _, p := range ports {
		l, err := net.Listen("tcp", ":"+strconv.Itoa(p))
		if err != nil {
			errs = append(errs, fmt.Errorf("port %d is in use; stop what listens there: %w", p, err))
			continue
		}
		l.Close()
	}
	return errors.Join(errs...)
}

// etcdEmpty refuses data of another cluster: etcd would start it instead of ours.
func etcdEmpty(s *State) error {
	if s.Node.Role != node.ControlPlane || resumed(s) {
		return nil
	}
	entries, err := os.ReadDir(s.path(kubeadm.EtcdDataDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty: it holds data of an earlier cluster; wipe the state partition to begin again", kubeadm.EtcdDataDir)
	}
	return nil
}

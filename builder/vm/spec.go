// SPDX-License-Identifier: Apache-2.0

// Package vm runs node images in QEMU, as an ordinary user and without touching the image:
// writes go to an overlay in a directory of the run's own. A machine is described by a Spec,
// the command line is a pure function of it (Arguments), and everything the guest says on its
// serial console becomes lines, events and a time line.
//
// QEMU and its firmware are the tool set "tool/qemu" of the lock; nothing of the host's is used.
package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Accel selects what executes the guest's instructions. The empty value is invalid.
type Accel string

// The accelerators.
const (
	// Auto tries KVM with a short deadline on the first console line, then TCG: a KVM device
	// may exist and still not run a stock kernel.
	Auto Accel = "auto"
	KVM  Accel = "kvm"
	TCG  Accel = "tcg"
)

// Spec describes one virtual machine.
type Spec struct {
	// Name shows in the process list and in errors.
	Name string
	// UUID and Serial are what the firmware says of the product (SMBIOS type 1, DMI
	// product_uuid and product_serial); empty leaves QEMU's own, which tell nobody apart.
	UUID, Serial string
	// Image is a raw disk image. It is opened read-only; writes go to an overlay in Dir.
	Image string
	// DiskSize is what the overlay pretends the disk has, in bytes; 0 means the image's size.
	DiskSize int64
	// SectorSize is 512 (also for 0) or 4096 bytes.
	SectorSize int
	// Disks are more raw disks, attached read-only with serials imgbuild1, imgbuild2 and so on.
	Disks []string
	// Kernel, Initrd and Append boot a kernel directly, still through the firmware.
	Kernel, Initrd, Append string
	// KernelArguments are added to the command line of an unsigned UKI (SMBIOS type 11,
	// io.systemd.stub.kernel-cmdline-extra).
	KernelArguments []string

	CPUs      int
	MemoryMiB int
	Accel     Accel
	// Clock is what the machine's clock says when it is switched on, exact to a second; zero
	// takes the host's.
	Clock time.Time

	// Ignition is the path of an Ignition config, handed over as fw_cfg opt/com.coreos/config.
	Ignition string
	NICs     []NIC
	// NoReboot makes a guest reset end the process.
	NoReboot bool
	// Dir is where the run keeps its files: overlay, firmware variables, sockets, logs. Empty
	// takes a temporary directory that goes away with the machine. A Dir that already holds an
	// overlay continues with it, as a machine does that was switched off and on, unless Image
	// is no longer what the overlay was made on.
	Dir string
}

// NIC is one network interface.
type NIC struct {
	// MAC is the hardware address; empty takes QEMU's default.
	MAC string
	// Forwards maps TCP ports of the guest to free ports of the host's loopback address.
	// They need user-mode networking, which is what an empty Stream selects.
	Forwards []int
	// Stream is the path of a Unix socket that carries Ethernet frames, each after its length
	// as 4 bytes in network order. QEMU connects to it.
	Stream string
}

// Names of the files in Spec.Dir.
const (
	overlayFile  = "disk.qcow2"
	baseFile     = "disk.base" // which image lies under the overlay
	varsFile     = "vars.fd"
	qmpSocket    = "qmp.sock"
	ConsoleFile  = "console.log"
	ignitionFile = "ignition.json"
)

// The tested sizes of a machine that runs a control plane.
const (
	DefaultCPUs      = 4
	DefaultMemoryMiB = 4096
)

// withDefaults fills what a caller may leave out.
func (s Spec) withDefaults() Spec {
	if s.Name == "" {
		s.Name = "imgbuild"
	}
	if s.SectorSize == 0 {
		s.SectorSize = 512
	}
	if s.CPUs == 0 {
		s.CPUs = DefaultCPUs
	}
	if s.MemoryMiB == 0 {
		s.MemoryMiB = DefaultMemoryMiB
	}
	if s.Accel == "" {
		s.Accel = Auto
	}
	return s
}

// checkSize reports what is wrong with the machine itself, whatever it boots.
func (s Spec) checkSize() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch s.Accel {
	case Auto, KVM, TCG:
	default:
		bad("accelerator %q: allowed are auto, kvm and tcg", s.Accel)
	}
	if s.SectorSize != 512 && s.SectorSize != 4096 {
		bad("sector size %d: allowed are 512 and 4096", s.SectorSize)
	}
	if s.CPUs < 1 || s.CPUs > 255 {
		bad("%d CPUs: allowed are 1 to 255", s.CPUs)
	}
	if s.MemoryMiB < 64 {
		bad("%d MiB of memory: at least 64", s.MemoryMiB)
	}
	return errors.Join(errs...)
}

// Validate reports everything that is wrong with a spec.
func (s Spec) Validate() error {
	errs := []error{s.checkSize()}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Image == "" && s.Kernel == "" {
		bad("neither an image nor a kernel to boot")
	}
	if s.Kernel == "" && (s.Initrd != "" || s.Append != "") {
		bad("an initrd or a command line without a kernel; use KernelArguments to extend a UKI's")
	}
	exists := func(what, path string) {
		if path != "" {
			if _, err := os.Stat(path); err != nil {
				bad("%s: %w", what, err)
			}
		}
	}
	exists("image", s.Image)
	exists("kernel", s.Kernel)
	exists("initrd", s.Initrd)
	exists("Ignition config", s.Ignition)
	for _, d := range s.Disks {
		exists("disk", d)
	}
	for i, n := range s.NICs {
		if n.Stream != "" && len(n.Forwards) > 0 {
			bad("interface %d: ports can be forwarded in user-mode networking only", i)
		}
	}
	return errors.Join(errs...)
}

// firmware returns the UEFI code and variable templates of the tool set unpacked at root.
func firmware(root string) (code, vars string) {
	dir := filepath.Join(root, "usr/share/OVMF")
	return filepath.Join(dir, "OVMF_CODE_4M.fd"), filepath.Join(dir, "OVMF_VARS_4M.fd")
}

// escape protects a comma in a value of a QEMU option, which is written as two.
func escape(v string) string { return strings.ReplaceAll(v, ",", ",,") }

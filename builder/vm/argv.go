// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// translationCache is the size of TCG's code cache in MiB. A node that runs a control plane
// fills QEMU's own default several times over before it is Ready, and every flush of the cache
// means translating the same code again.
const translationCache = 2048

// Arguments returns the command line of qemu-system-x86_64 for a completed spec whose Accel is
// KVM or TCG. root is where the tool set lies. Paths in Dir are relative: QEMU is started
// there, which keeps socket names below the 107 bytes that the kernel allows.
func Arguments(s Spec, root string) []string {
	code, _ := firmware(root)
	args := []string{
		"-name", "guest=" + escape(s.Name),
		"-no-user-config", "-nodefaults",
		"-display", "none",
		"-L", filepath.Join(root, "usr/share/qemu"),
		// What a server does not have costs time in the firmware and in the kernel's probes.
		"-machine", "q35,vmport=off,smm=off,sata=off,usb=off,i8042=off",
	}
	args = append(args, accelArguments(s.Accel)...)
	args = append(args, productArguments(s)...)
	args = append(args,
		"-smp", "cpus="+strconv.Itoa(s.CPUs)+",sockets=1,cores="+strconv.Itoa(s.CPUs)+",threads=1",
		"-m", "size="+strconv.Itoa(s.MemoryMiB)+"M",
		"-rtc", "base="+clockBase(s.Clock),
		"-boot", "menu=off,strict=on",
		"-blockdev", blockdev(map[string]any{"node-name": "code", "driver": "raw", "read-only": true,
			"file": map[string]any{"driver": "file", "filename": code, "read-only": true}}),
		"-blockdev", blockdev(map[string]any{"node-name": "vars", "driver": "raw",
			"file": map[string]any{"driver": "file", "filename": varsFile}, "cache": noFlush}),
		"-machine", "pflash0=code,pflash1=vars",
		"-chardev", "stdio,id=console,signal=off,logappend=on,logfile="+ConsoleFile,
		"-serial", "chardev:console",
		"-chardev", "socket,id=qmp,server=on,wait=off,path="+qmpSocket,
		"-mon", "chardev=qmp,mode=control",
		"-device", "virtio-rng-pci",
	)
	if s.Image != "" {
		args = append(args, diskArguments(s)...)
	}
	for i, path := range s.Disks {
		id := "disk" + strconv.Itoa(i+1)
		args = append(args,
			"-blockdev", blockdev(map[string]any{"node-name": id, "driver": "raw", "read-only": true,
				"file": map[string]any{"driver": "file", "filename": path, "read-only": true}}),
			"-device", "virtio-blk-pci,drive="+id+",serial=imgbuild"+strconv.Itoa(i+1))
	}
	for i, n := range s.NICs {
		args = append(args, nicArguments(i, n)...)
	}
	if s.Kernel != "" {
		args = append(args, "-kernel", s.Kernel)
	}
	if s.Initrd != "" {
		args = append(args, "-initrd", s.Initrd)
	}
	if s.Append != "" {
		args = append(args, "-append", s.Append)
	}
	extra := slices.Clone(s.KernelArguments)
	if s.Accel == TCG && s.Kernel == "" {
		extra = append(extra, emulatedArguments...)
	}
	if len(extra) > 0 {
		args = append(args, "-smbios", "type=11,value=io.systemd.stub.kernel-cmdline-extra="+escape(strings.Join(extra, " ")))
	}
	if s.Ignition != "" {
		args = append(args, "-fw_cfg", "name=opt/com.coreos/config,file="+escape(s.Ignition))
	}
	if s.NoReboot {
		args = append(args, "-no-reboot")
	}
	return args
}

func clockBase(t time.Time) string {
	if t.IsZero() {
		return "utc"
	}
	return t.UTC().Format("2006-01-02T15:04:05")
}

// emulatedArguments are what a kernel on an emulated CPU is told besides its own command line.
// The time stamp counter follows the host's clock, and a busy host must not make the kernel
// give it up for a timer that costs an exit per reading. There is no speculation to mitigate.
// A timer that is programmed anew for every nanosleep costs a call into the emulated interrupt
// controller each time, and a dozen Go programs sleep for microseconds all the time: a periodic
// tick took a third off the way to Ready. The IOMMU is there for interrupts alone.
// A disk that takes long to appear is slow, not absent.
var emulatedArguments = []string{"tsc=reliable", "mitigations=off", "highres=off", "nohz=off", "intel_iommu=off",
	"systemd.default_device_timeout_sec=15min"}

// accelArguments choose the accelerator and the CPU. Under TCG a fifth level of page tables
// and nested virtualisation buy nothing and are paid for in every page walk; with MWAIT, idle
// processors would spin instead of sleeping and take the host's time from the others. Without
// the fast string instructions the kernel clears and copies pages by words: TCG emulates them
// element by element, and a byte costs as much as a word. SMAP gives every copy from and to a
// program two instructions that end a translated block, and user memory a second set of TLBs;
// without it and its like a boot costs a twentieth less. Interrupt remapping is what a kernel
// needs to use the x2APIC, whose registers take no detour through emulated memory.
func accelArguments(a Accel) []string {
	if a == KVM {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-accel", "tcg,thread=multi,tb-size=" + strconv.Itoa(translationCache), "-cpu", "max,la57=off,svm=off,monitor=off,erms=off,fsrm=off,fsrs=off,fzrm=off,smap=off,smep=off,pku=off",
		"-device", "intel-iommu,intremap=on,eim=on"}
}

// productArguments are what a config shared by several hosts tells this one by.
func productArguments(s Spec) (args []string) {
	if s.UUID != "" {
		args = append(args, "-uuid", s.UUID)
	}
	if s.Serial != "" {
		args = append(args, "-smbios", "type=1,serial="+escape(s.Serial))
	}
	return args
}

// noFlush ignores the guest's requests to reach stable storage: a killed QEMU loses nothing that
// the host kernel has. A disk that is kept can be damaged by a power cut of the host alone;
// then it is removed and the machine begins anew.
var noFlush = map[string]any{"no-flush": true}

func diskArguments(s Spec) []string {
	size := strconv.Itoa(s.SectorSize)
	return []string{
		"-object", "iothread,id=io0",
		"-blockdev", blockdev(map[string]any{"node-name": "disk0", "driver": "qcow2", "cache": noFlush, "discard": "unmap",
			"file": map[string]any{"driver": "file", "filename": overlayFile, "cache": noFlush, "aio": "threads", "discard": "unmap"}}),
		"-device", "virtio-blk-pci,drive=disk0,iothread=io0,serial=imgbuild0,bootindex=1,logical_block_size=" + size + ",physical_block_size=" + size,
	}
}

func nicArguments(i int, n NIC) []string {
	id := "net" + strconv.Itoa(i)
	backend := "user,id=" + id
	for _, port := range n.Forwards {
		// Port 0 lets the host kernel choose; Machine.Forward asks which it was.
		backend += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:0-:%d", port)
	}
	if n.Stream != "" {
		backend = "stream,id=" + id + ",server=off,addr.type=unix,addr.path=" + escape(n.Stream)
	}
	// Without an option ROM the firmware does not try to boot from the network.
	device := "virtio-net-pci,netdev=" + id + ",romfile="
	if n.MAC != "" {
		device += ",mac=" + n.MAC
	}
	return []string{"-netdev", backend, "-device", device}
}

func blockdev(options map[string]any) string {
	text, err := json.Marshal(options)
	if err != nil {
		panic(err) // strings, booleans and maps of them always encode
	}
	return string(text)
}

// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/phases"
	"github.com/imgbuild/imgbuild/firstboot/pki"
	"github.com/imgbuild/imgbuild/firstboot/vip"
)

// Machine is one control plane of the segment.
type Machine struct {
	Name    string
	Address netip.Addr

	lab        *Lab
	own        string // the interface with Address
	dir        string
	space      *space
	keepalived *exec.Cmd
	watch      *exec.Cmd
	api        *http.Server
	answers    atomic.Bool // whether it has an API server
	// listed are the control planes of the machine's document.
	listed   []*Machine
	follower *phases.Follower
}

// cable gives the machine an interface with its address; port is the other end.
func (m *Machine) cable(port, iface string) error {
	if err := m.lab.wire.do(func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: iface, PeerNamespace: netlink.NsFd(m.space.file.Fd())})
	}); err != nil {
		return err
	}
	return m.space.do(func() error { return raise(iface, netip.PrefixFrom(m.Address, 24)) })
}

// attach connects a port to a segment.
func (m *Machine) attach(port, segment string) error {
	return m.lab.wire.do(func() error {
		link, err := netlink.LinkByName(port)
		if err != nil {
			return err
		}
		bridge, err := netlink.LinkByName(segment)
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetMaster(link, bridge), netlink.LinkSetUp(link))
	})
}

// Plug connects the machine to the segment, or cuts it off in a way it does not notice: its
// own link stays up, as behind a switch.
func (m *Machine) Plug(in bool) error {
	if in {
		return m.attach(m.Name, "wire")
	}
	return m.lab.wire.do(func() error {
		port, err := netlink.LinkByName(m.Name)
		if err != nil {
			return err
		}
		return netlink.LinkSetNoMaster(port)
	})
}

// second is the port of the machine's interface on the second segment.
func (m *Machine) second() string { return m.Name + "-2" }

// Unplug takes a cable out of the machine, which notices that, or puts it in again: that of its
// own address, or that of the virtual one where they are apart.
func (m *Machine) Unplug(own, out bool) error {
	name := m.Name
	if own && m.lab.apart {
		name = m.second()
	}
	return m.lab.wire.do(func() error {
		port, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if out {
			return netlink.LinkSetDown(port)
		}
		return netlink.LinkSetUp(port)
	})
}

// Keepalived prepares to run the real keepalived on a file. It reads the build options its
// package ships in /etc, and looks for them beside itself as well.
func Keepalived(ctx context.Context, tools *tool.Set, dir string, args ...string) (*exec.Cmd, error) {
	options, err := os.ReadFile(filepath.Join(tools.Dir, "etc/keepalived/keepalived.config-opts"))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "keepalived.config-opts"), options, 0o644); err != nil {
		return nil, err
	}
	cmd, err := tools.Command(ctx, "keepalived", args...)
	if err != nil {
		return nil, err
	}
	if i := slices.Index(cmd.Args, "--argv0"); i > 0 {
		cmd.Args[i+1] = filepath.Join(dir, "keepalived")
	}
	return cmd, nil
}

// Start runs the watch and keepalived, with the configuration that first boot renders, as on a
// machine that starts the cluster.
func (m *Machine) Start() error {
	n, c, err := m.lab.document(m)
	if err != nil {
		return err
	}
	k, err := vip.New(n, c, m.own)
	if err != nil {
		return err
	}
	if _, err := kubeadm.WriteFiles(m.root(), k.Config(), kubeadm.File{Path: vip.AdmittedFile, Mode: 0o644}); err != nil {
		return err
	}
	return m.startKeepalived()
}

// startKeepalived runs the watch and keepalived with the configuration that is there.
func (m *Machine) startKeepalived() error {
	config, err := m.configure()
	if err != nil {
		return err
	}
	if err := m.startWatch(); err != nil {
		return err
	}
	args := []string{"--dont-fork", "--log-console", "--no-syslog", "--vrrp", "--use-file", config}
	for _, kind := range []string{"pid", "vrrp_pid", "checkers_pid", "bfd_pid"} {
		args = append(args, "--"+kind+"="+filepath.Join(m.dir, kind))
	}
	if m.keepalived, err = Keepalived(context.Background(), m.lab.tools, m.dir, args...); err != nil {
		return err
	}
	return m.run(m.keepalived, "keepalived.log", urgently)
}

// startWatch runs the watch, unless it runs.
func (m *Machine) startWatch() error {
	if m.watch != nil {
		return nil
	}
	m.watch = exec.Command(m.lab.watch, "--endpoint", netip.AddrPortFrom(m.Address, Port).String(), "--state", m.state(), "--address", VIP.String(), "--owner", m.owner(), "--ca", filepath.Join(m.dir, "ca.crt"))
	return m.run(m.watch, "watch.log", (*exec.Cmd).Start)
}

// run starts a program on the machine, by start.
func (m *Machine) run(cmd *exec.Cmd, log string, start func(*exec.Cmd) error) error {
	f, err := os.OpenFile(filepath.Join(m.dir, log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return m.space.do(func() error { return start(cmd) })
}

// urgently starts a program with the scheduling policy that keepalived's unit gives it, where
// that is allowed: a busy machine that runs the tests must not look like one that is gone. The
// policy is the calling thread's, which a process inherits.
func urgently(cmd *exec.Cmd) error {
	before, err := unix.SchedGetAttr(0, 0)
	if err != nil || unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1}, 0) != nil {
		return cmd.Start()
	}
	return errors.Join(cmd.Start(), unix.SchedSetAttr(0, before, 0))
}

// Log is what keepalived and the watch said.
func (m *Machine) Log() string {
	var b strings.Builder
	for _, f := range []string{"watch.log", "keepalived.log"} {
		text, err := os.ReadFile(filepath.Join(m.dir, f))
		fmt.Fprintf(&b, "%s %s: %v\n%s", m.Name, f, err, text)
	}
	return b.String()
}

// Kill ends keepalived, parent and child at once and without a word, and leaves the address
// where it was.
func (m *Machine) Kill() error { return m.end(&m.keepalived, syscall.SIGKILL) }

// Crash ends keepalived's parent without a word, and does not wait for what its child makes
// of that. Stop does, before the machine can start again.
func (m *Machine) Crash() error { return m.keepalived.Process.Kill() }

// gone waits for a program and its children, as systemd does before it starts a unit again.
func gone(cmd *exec.Cmd) {
	_ = cmd.Wait() // ended by a signal
	for syscall.Kill(-cmd.Process.Pid, 0) == nil {
		time.Sleep(time.Millisecond)
	}
}

// Stop ends everything on the machine but the API server, in good order.
func (m *Machine) Stop() error {
	return errors.Join(m.end(&m.watch, syscall.SIGTERM), m.end(&m.keepalived, syscall.SIGTERM))
}

// end sends a signal to a program and all its children.
func (m *Machine) end(cmd **exec.Cmd, sig syscall.Signal) error {
	if *cmd == nil || (*cmd).Process == nil {
		return nil
	}
	err := syscall.Kill(-(*cmd).Process.Pid, sig)
	if errors.Is(err, syscall.ESRCH) {
		err = nil // it has ended by itself
	}
	gone(*cmd)
	*cmd = nil
	return err
}

func (m *Machine) owns() (has bool, err error) {
	err = m.space.do(func() error {
		addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
		for _, a := range addrs {
			if ip, ok := netip.AddrFromSlice(a.IP); ok && ip.Unmap() == VIP {
				has = true
			}
		}
		return err
	})
	return has, err
}

// StartAPI makes the machine's API server answer, with a certificate of the cluster's
// authority and the machine's name.
func (m *Machine) StartAPI() error {
	pair, err := m.lab.maker.Leaf(pki.Spec{Name: "apiserver", CommonName: "kube-apiserver", Signer: pki.CA, Server: true,
		DNS: []string{"kubernetes"}, IPs: []netip.Addr{m.Address, VIP}}, m.lab.ca)
	if err != nil {
		return err
	}
	m.api = &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(m.Name)) }),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{pair.Cert.Raw}, PrivateKey: pair.Key}}}}
	var l net.Listener
	if err := m.space.do(func() (err error) {
		l, err = net.Listen("tcp", ":"+strconv.Itoa(Port))
		return err
	}); err != nil {
		return err
	}
	go func(s *http.Server) { _ = s.ServeTLS(l, "", "") }(m.api)
	m.answers.Store(true)
	return nil
}

// StopAPI makes it fall silent.
func (m *Machine) StopAPI() error {
	if m.api == nil {
		return nil
	}
	m.answers.Store(false)
	err := m.api.Close()
	m.api = nil
	return err
}

// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestChooseAddress(t *testing.T) {
	for _, c := range []struct {
		name, vip string
		addrs     []string
		want      string
	}{
		{"the first IPv4", "", []string{"fe80::1/64", "2001:db8::5/64", "192.0.2.11/24", "192.0.2.12/24"}, "192.0.2.11"},
		{"IPv6 alone", "", []string{"127.0.0.1/8", "2001:db8::5/64"}, "2001:db8::5"},
		{"the virtual address first", "192.0.2.10", []string{"192.0.2.10/32", "192.0.2.11/24"}, "192.0.2.11"},
		{"the virtual address in IPv6", "2001:db8::10", []string{"2001:db8::10/128", "2001:db8::5/64"}, "2001:db8::5"},
		{"only the virtual address", "192.0.2.10", []string{"192.0.2.10/32"}, ""},
		{"nothing", "", []string{"169.254.1.1/16"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var addrs []net.Addr
			for _, a := range c.addrs {
				ip, n, err := net.ParseCIDR(a)
				if err != nil {
					t.Fatal(err)
				}
				addrs = append(addrs, &net.IPNet{IP: ip, Mask: n.Mask})
			}
			var vip, want netip.Addr
			if c.vip != "" {
				vip = netip.MustParseAddr(c.vip)
			}
			if c.want != "" {
				want = netip.MustParseAddr(c.want)
			}
			if got, ok := chooseAddress(addrs, vip); got != want || ok != want.IsValid() {
				t.Errorf("%v %v, want %v", got, ok, want)
			}
		})
	}
}

func TestFindAddress(t *testing.T) {
	if _, err := findAddress("192.0.2.250", "", netip.Addr{}); err == nil || !strings.Contains(err.Error(), "192.0.2.250") {
		t.Errorf("an address nobody has: %v", err)
	}
	if _, err := findAddress("", "no-such-if0", netip.Addr{}); err == nil || !strings.Contains(err.Error(), "no-such-if0") {
		t.Errorf("an interface nobody has: %v", err)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if addr, ok := Global(a); ok {
			if got, err := findAddress(addr.String(), "", netip.Addr{}); err != nil || got != addr {
				t.Errorf("own address: %v, %v", got, err)
			}
		}
	}
	ifaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range ifaces {
		if got, err := findAddress("", i.Name, netip.Addr{}); err == nil && !got.IsGlobalUnicast() {
			t.Errorf("%s: %v", i.Name, got)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := awaitAddress(ctx, "192.0.2.250", "", netip.Addr{}); err == nil {
		t.Error("waiting for an address nobody has ended well")
	}
}

func TestKubernetesVersionOfAProgramThatIsAsked(t *testing.T) {
	program := filepath.Join(t.TempDir(), "kubelet")
	for script, want := range map[string]string{"echo Kubernetes v1.36.3": "v1.36.3", "echo what": "", "exit 1": ""} {
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		got, err := kubernetesVersion(t.Context(), program)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", script, got, err)
		}
	}
	if components := os.Getenv("IMGBUILD_TEST_COMPONENTS"); components != "" {
		if got, err := kubernetesVersion(t.Context(), filepath.Join(components, "kubernetes")); err != nil || got != "v1.36.3" {
			t.Errorf("the built program: %q, %v", got, err)
		}
	}
}

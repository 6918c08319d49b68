// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// networkPrograms builds the component and returns the paths of its links.
func networkPrograms(t *testing.T) (coredns, flanneld string) {
	t.Helper()
	c, err := Load(checkout, "network")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := toolchain(t).Build(t.Context(), c, Options{Arch: "amd64", Dir: dir}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"coredns", "flanneld"} {
		if err := os.Symlink("network", filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "coredns"), filepath.Join(dir, "flanneld")
}

// The two programs in one file do not see each other's flags, and CoreDNS answers queries.
func TestNetwork(t *testing.T) {
	coredns, flanneld := networkPrograms(t)
	for _, c := range []struct {
		argv []string
		want string
	}{
		{[]string{coredns, "-vmodule=x=1"}, "flag provided but not defined: -vmodule"},
		{[]string{flanneld, "-conf=x"}, "flag provided but not defined: -conf"},
		{[]string{flanneld, "-vmodule=x=1", "--version"}, "v0."},
		{[]string{filepath.Join(filepath.Dir(coredns), "network"), "--version"}, "neither coredns nor flanneld"},
		{[]string{coredns, "-conf=" + corefile(t, "quic://.:53535 {\n\twhoami\n}\n")}, "quic://:53535 cannot be served"},
		{[]string{coredns, "-conf=" + corefile(t, ".:53535 {\n\tgrpc . 192.0.2.1\n}\n")}, "Unknown directive 'grpc'"},
	} {
		out, _ := exec.CommandContext(t.Context(), c.argv[0], c.argv[1:]...).CombinedOutput()
		if !strings.Contains(string(out), c.want) {
			t.Errorf("%v printed %q, want %q", c.argv, out, c.want)
		}
	}
	t.Run("answers", func(t *testing.T) { askCoreDNS(t, coredns) })
}

func corefile(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "Corefile")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func askCoreDNS(t *testing.T, coredns string) {
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.LocalAddr().(*net.UDPAddr)
	free.Close()
	conf := corefile(t, fmt.Sprintf(".:%d {\n\tbind 127.0.0.1\n\terrors\n\tcache 30\n\tloadbalance\n\thosts {\n\t\t192.0.2.7 node.example\n\t}\n}\n", addr.Port))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, coredns, "-conf", conf)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", addr.String())
	}}
	for {
		got, err := r.LookupHost(t.Context(), "node.example.")
		if err == nil {
			if len(got) != 1 || got[0] != "192.0.2.7" {
				t.Errorf("got %v", got)
			}
			break
		}
		select {
		case <-ended:
			t.Fatalf("CoreDNS ended:\n%s", said.String())
		default:
		}
	}
	cancel()
	<-ended
}

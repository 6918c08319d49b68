// SPDX-License-Identifier: Apache-2.0

package vip

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/firstboot/balancer"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phases"
)

// launchVariable holds how to run haproxy through its own loader.
const launchVariable = "IMGBUILD_TEST_LAUNCH"

// service is a program that tells a service manager how it is (sd_notify(3)).
type service struct {
	*exec.Cmd
	socket *net.UnixConn
}

// says waits for a message with lines that begin so.
func (s *service) says(limit time.Duration, lines ...string) error {
	buf := make([]byte, 4096)
	if err := s.socket.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	for {
		n, err := s.socket.Read(buf)
		if err != nil {
			return fmt.Errorf("it does not say %s: %w", lines, err)
		}
		text := "\n" + string(buf[:n])
		if !slices.ContainsFunc(lines, func(line string) bool { return !strings.Contains(text, "\n"+line) }) {
			return nil
		}
	}
}

// reload makes it read its configuration, as systemd does for Type=notify-reload: a reload fails
// that it does not answer, and does no harm.
func (s *service) reload() error {
	if err := s.Process.Signal(syscall.SIGUSR2); err != nil {
		return err
	}
	if err := s.says(patience/4, "RELOADING=1", "MONOTONIC_USEC="); err != nil {
		return err
	}
	return s.says(patience, "READY=1")
}

// masterWorker runs haproxy as its unit does, and waits until it is ready as systemd does: a
// signal that comes earlier is lost.
func masterWorker(t *testing.T, set *tool.Set, config string) *service {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify") // short enough for a socket's name
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { socket.Close() })
	name := build(t, t.TempDir(), "haproxy", "github.com/imgbuild/imgbuild/test/vip/launch")
	cmd, err := set.Command(t.Context(), "haproxy")
	must(t, err)
	i := slices.Index(cmd.Args, "--argv0")
	if i < 0 {
		t.Fatal("haproxy has no loader: ", cmd.Args)
	}
	cmd.Args[i+1] = name
	launch, err := json.Marshal(cmd.Args)
	must(t, err)
	cmd.Env = append(cmd.Env, launchVariable+"="+string(launch), "NOTIFY_SOCKET="+filepath.Join(dir, "s"))
	cmd.Args = append(cmd.Args, "-Ws", "-f", config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	must(t, err)
	cmd.Stdout, cmd.Stderr = log, log
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("%s", text)
		}
		log.Close()
	})
	s := &service{cmd, socket}
	must(t, s.says(patience, "READY=1"))
	return s
}

// worker is a machine with a balancer of its own before one API server of three.
func worker(t *testing.T, port int32, servers ...string) (*phases.State, *balancer.Balancer) {
	t.Helper()
	own := freePort(t, "127.0.0.1")[0]
	_, local, _ := net.SplitHostPort(own.Addr().String())
	own.Close()
	n := &node.Node{Role: node.Worker, Node: node.Machine{Name: "w-1", Address: "127.0.0.1"},
		Cluster: node.Cluster{Endpoint: "api.example.com:" + local, EndpointMode: node.EndpointLocal}, APIServer: node.APIServer{Port: port}}
	for i, s := range servers {
		n.Cluster.ControlPlanes = append(n.Cluster.ControlPlanes, node.Peer{Name: fmt.Sprintf("cp-%d", i+1), Address: s})
	}
	node.SetDefaults(n)
	c, err := kubeadm.New(n, kubeadm.Host{Hostname: "w-1", KubernetesVersion: "v1.36.3", Now: time.Now()})
	must(t, err)
	b := balancer.New(n, c, "")
	s := &phases.State{Root: t.TempDir(), Node: n, Config: c, Log: slog.New(slog.DiscardHandler)}
	_, err = kubeadm.WriteFiles(s.Root, b.Config())
	must(t, err)
	return s, &b
}

// TestHaproxyGainsAServer adds an API server to a worker's balancer while one connection is
// open and new ones are made all the time.
func TestHaproxyGainsAServer(t *testing.T) {
	set := tools(t)
	m, ca, _ := authority(t)
	addresses := []string{"127.0.0.11", "127.0.0.12"}
	listeners := freePort(t, addresses...)
	var ready atomic.Bool
	ready.Store(true)
	for i, name := range []string{"one", "two"} {
		apiServer(t, m, ca, addresses[i], name, &ready, listeners[i])
	}
	s, b := worker(t, int32(listeners[0].Addr().(*net.TCPAddr).Port), addresses[0])
	haproxy := masterWorker(t, set, filepath.Join(s.Root, balancer.ConfigFile))
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	dial := func() (*tls.Conn, error) {
		d := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: &tls.Config{RootCAs: pool, ServerName: "kubernetes"}}
		c, err := d.DialContext(t.Context(), "tcp", b.Local())
		if err != nil {
			return nil, err
		}
		return c.(*tls.Conn), nil
	}
	var open *tls.Conn
	for end := time.Now().Add(patience); open == nil; time.Sleep(50 * time.Millisecond) {
		c, err := dial()
		if open = c; err != nil && time.Now().After(end) {
			t.Fatal(err)
		}
	}
	defer open.Close()
	lines := bufio.NewReader(open)
	if got := ask(t, open, lines); got != "one" {
		t.Fatalf("%q answers", got)
	}

	// From here on nobody is to be refused.
	ctx, cancel := context.WithCancel(t.Context())
	var made, refused, second atomic.Int64
	var clients sync.WaitGroup
	clients.Go(func() {
		for ctx.Err() == nil {
			c, err := dial()
			if err != nil {
				t.Error(err)
				refused.Add(1)
				return
			}
			made.Add(1)
			if ask(t, c, bufio.NewReader(c)) == "two" {
				second.Add(1)
			}
			c.Close()
		}
	})
	reloads := 0
	f := &phases.Follower{State: s, Now: time.Now,
		APIServers: func(context.Context) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr(addresses[0]), netip.MustParseAddr(addresses[1])}, nil
		},
		Reload: func(_ context.Context, unit string) error {
			err := haproxy.reload()
			if err == nil {
				reloads++
			}
			return err
		}}
	if _, err := f.Once(t.Context()); err != nil { // haproxy missed the signal, which is rare
		t.Log(err)
		_, err = f.Once(t.Context())
		must(t, err)
	}
	_, err := f.Once(t.Context())
	must(t, err)
	if reloads != 1 {
		t.Errorf("%d reloads for one change", reloads)
	}
	for end := time.Now().Add(patience); second.Load() < 3 && refused.Load() == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the new server got no connection")
		}
	}
	cancel()
	clients.Wait()
	if got := ask(t, open, lines); got != "one" {
		t.Errorf("the open connection: %q", got)
	}
	t.Logf("%d new connections", made.Load())
}

// ask sends a request on a connection and returns the answer.
func ask(t *testing.T, c net.Conn, lines *bufio.Reader) string {
	t.Helper()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: kubernetes\r\n\r\n"); err != nil {
		t.Error(err)
		return ""
	}
	resp, err := http.ReadResponse(lines, nil)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return strings.TrimSpace(string(text))
}

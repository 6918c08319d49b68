// SPDX-License-Identifier: Apache-2.0

package vip

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/firstboot/balancer"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// slow is an API server on a machine that is busy: it takes its time for handshakes and for
// saying that it is ready.
type slow struct {
	handshake, answer time.Duration
	unready           atomic.Bool
}

func (s *slow) serve(t *testing.T, m *pki.Maker, ca *pki.Pair, l net.Listener) {
	t.Helper()
	address := l.Addr().(*net.TCPAddr).IP.String()
	pair, err := m.Leaf(pki.Spec{Name: "apiserver", CommonName: "kube-apiserver", Signer: pki.CA, Server: true,
		DNS: []string{"kubernetes"}, IPs: []netip.Addr{netip.MustParseAddr(address)}}, ca)
	must(t, err)
	cert := &tls.Certificate{Certificate: [][]byte{pair.Cert.Raw}, PrivateKey: pair.Key}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			time.Sleep(s.answer)
			if s.unready.Load() {
				w.WriteHeader(http.StatusInternalServerError)
			}
		}
		_, _ = io.WriteString(w, address)
	}))
	srv.Listener.Close()
	srv.Listener = l
	// Tickets would spare later checks the handshake.
	srv.TLS = &tls.Config{SessionTicketsDisabled: true, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		time.Sleep(s.handshake)
		return cert, nil
	}}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
}

// balanced runs haproxy before servers. It returns how to connect, and what haproxy has said.
func balanced(t *testing.T, set *tool.Set, check time.Duration, servers ...*slow) (dial func() (net.Conn, error), said func() string) {
	t.Helper()
	m, ca, file := authority(t)
	var addresses []string
	for i := range servers {
		addresses = append(addresses, fmt.Sprintf("127.0.0.%d", 11+i))
	}
	listeners := freePort(t, addresses...)
	b := balancer.Balancer{Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, ServerPort: int32(listeners[0].Addr().(*net.TCPAddr).Port), CAFile: file, Check: check}
	for i, s := range servers {
		s.serve(t, m, ca, listeners[i])
		b.Servers = append(b.Servers, node.Peer{Name: fmt.Sprintf("cp-%d", i+1), Address: addresses[i]})
	}
	own := freePort(t, "127.0.0.1")[0]
	b.Port = int32(own.Addr().(*net.TCPAddr).Port)
	own.Close()
	dir := t.TempDir()
	config, output := filepath.Join(dir, "haproxy.cfg"), filepath.Join(dir, "log")
	must(t, os.WriteFile(config, b.Config().Data, 0o644))
	log, err := os.Create(output)
	must(t, err)
	cmd, err := set.Command(t.Context(), "haproxy", "-db", "-f", config)
	must(t, err)
	cmd.Stdout, cmd.Stderr = log, log
	must(t, cmd.Start())
	said = func() string {
		text, err := os.ReadFile(output)
		must(t, err)
		return string(text)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		log.Close()
		if t.Failed() {
			t.Log(said())
		}
	})
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	return func() (net.Conn, error) {
		d := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 20 * time.Second}, Config: &tls.Config{RootCAs: pool, ServerName: "kubernetes"}}
		return d.DialContext(t.Context(), "tcp", b.Local())
	}, said
}

// soon dials until somebody answers, and returns who.
func soon(t *testing.T, dial func() (net.Conn, error)) (net.Conn, *bufio.Reader, string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		c, err := dial()
		if err == nil {
			lines := bufio.NewReader(c)
			return c, lines, ask(t, c, lines)
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// Servers that take half of the time they have for a handshake, and most of the other half for
// their answer, stay servers: nobody's connection is cut.
func TestHaproxyWaitsForSlowServers(t *testing.T) {
	const check = 7 * time.Second
	one, two := &slow{handshake: check / 2, answer: check / 3}, &slow{handshake: check / 2, answer: check / 3}
	dial, said := balanced(t, tools(t), check, one, two)
	open, lines, who := soon(t, dial)
	defer open.Close()
	time.Sleep(3 * check)
	if got := ask(t, open, lines); got != who {
		t.Errorf("%q answered, then %q", who, got)
	}
	if text := said(); strings.Contains(text, "is DOWN") {
		t.Error("a server that is only slow was given up")
	}
}

// While no server is ready, connections are passed on nevertheless; once one is, to that one.
func TestHaproxyTriesServersThatAreNotReady(t *testing.T) {
	one, two := &slow{}, &slow{}
	one.unready.Store(true)
	two.unready.Store(true)
	dial, said := balanced(t, tools(t), 5*time.Second, one, two)
	for end := time.Now().Add(patience); !strings.Contains(said(), "has no server available"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("haproxy takes them for ready")
		}
	}
	seen := map[string]bool{}
	for range 20 {
		c, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		seen[ask(t, c, bufio.NewReader(c))] = true
		c.Close()
	}
	if len(seen) != 2 {
		t.Errorf("only %v was tried", seen)
	}
	two.unready.Store(false)
	for end := time.Now().Add(patience); !strings.Contains(said(), "cp-2 is UP"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("haproxy does not see that one is ready")
		}
	}
	for range 20 {
		c, _, who := soon(t, dial)
		c.Close()
		if who != "127.0.0.12" {
			t.Fatalf("%s answered, which is not ready", who)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package vip

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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

	"github.com/imgbuild/imgbuild/firstboot/balancer"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// authority makes a cluster's authority and writes it to a file.
func authority(t *testing.T) (*pki.Maker, *pki.Pair, string) {
	t.Helper()
	m := &pki.Maker{Algorithm: node.ECDSAP256, CAValidity: 24 * time.Hour, Validity: 12 * time.Hour, Now: time.Now()}
	key, err := m.Key()
	must(t, err)
	ca, err := m.Authority(pki.Spec{Name: pki.CA, CommonName: "kubernetes"}, key)
	must(t, err)
	file := filepath.Join(t.TempDir(), "ca.crt")
	must(t, os.WriteFile(file, ca.CertPEM(), 0o644))
	return m, ca, file
}

// apiServer answers with its name, and says whether it is ready. It stands at an address of
// its own, because servers share a port.
func apiServer(t *testing.T, m *pki.Maker, ca *pki.Pair, address, name string, ready *atomic.Bool, l net.Listener) {
	t.Helper()
	pair, err := m.Leaf(pki.Spec{Name: "apiserver", CommonName: "kube-apiserver", Signer: pki.CA, Server: true,
		DNS: []string{"kubernetes"}, IPs: []netip.Addr{netip.MustParseAddr(address)}}, ca)
	must(t, err)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" && !ready.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, name)
	}))
	s.Listener.Close()
	s.Listener = l
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{pair.Cert.Raw}, PrivateKey: pair.Key}}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // haproxy refuses strangers
	s.StartTLS()
	t.Cleanup(s.Close)
}

func freePort(t *testing.T, addresses ...string) []net.Listener {
	t.Helper()
	for range 50 {
		first, err := net.Listen("tcp", addresses[0]+":0")
		must(t, err)
		all := []net.Listener{first}
		_, port, _ := net.SplitHostPort(first.Addr().String())
		for _, a := range addresses[1:] {
			if l, err := net.Listen("tcp", net.JoinHostPort(a, port)); err == nil {
				all = append(all, l)
			}
		}
		if len(all) == len(addresses) {
			return all
		}
		for _, l := range all {
			l.Close()
		}
	}
	t.Fatal("no port is free on all addresses")
	return nil
}

// TestHaproxyBalances runs the real haproxy before three servers, of which one has a
// certificate of somebody else.
func TestHaproxyBalances(t *testing.T) {
	set := tools(t)
	m, ca, file := authority(t)
	strangers, stranger, _ := authority(t)
	addresses := []string{"127.0.0.11", "127.0.0.12", "127.0.0.13"}
	listeners := freePort(t, addresses...)
	port := listeners[0].Addr().(*net.TCPAddr).Port
	var ready [3]atomic.Bool
	b := balancer.Balancer{Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, ServerPort: int32(port), CAFile: file, Check: 5 * time.Second}
	for i, name := range []string{"one", "two", "stranger"} {
		ready[i].Store(true)
		maker, signer := m, ca
		if name == "stranger" {
			maker, signer = strangers, stranger
		}
		apiServer(t, maker, signer, addresses[i], name, &ready[i], listeners[i])
		b.Servers = append(b.Servers, node.Peer{Name: name, Address: addresses[i]})
	}
	own := freePort(t, "127.0.0.1")[0]
	b.Port = int32(own.Addr().(*net.TCPAddr).Port)
	own.Close()
	config := filepath.Join(t.TempDir(), "haproxy.cfg")
	must(t, os.WriteFile(config, b.Config().Data, 0o644))
	cmd, err := set.Command(t.Context(), "haproxy", "-db", "-f", config)
	must(t, err)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	must(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	}()

	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	ask := func() (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "kubernetes"}}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+b.Local()+"/", nil)
		must(t, err)
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return string(text), err
	}
	// settle asks until the answers of a whole round are as wanted.
	settle := func(what string, wanted ...string) {
		t.Helper()
		var got map[string]int
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			got = map[string]int{}
			for range 20 {
				name, err := ask()
				if err != nil {
					name = "an error"
				}
				got[name]++
			}
			complete := len(got) == len(wanted)
			for _, w := range wanted {
				complete = complete && got[w] > 0
			}
			if complete {
				return
			}
		}
		t.Fatalf("%s: answers came from %v, want %v", what, got, wanted)
	}
	settle("two good servers and a stranger", "one", "two")
	ready[0].Store(false)
	settle("one is not ready", "two")
	ready[0].Store(true)
	settle("one is ready again", "one", "two")
	listeners[1].Close()
	settle("two is gone", "one")
}

// TestHaproxyAcceptsTheConfiguration asks haproxy itself.
func TestHaproxyAcceptsTheConfiguration(t *testing.T) {
	set := tools(t)
	_, _, ca := authority(t)
	goldens, err := filepath.Glob("../../firstboot/balancer/testdata/*.cfg")
	if err != nil || len(goldens) == 0 {
		t.Fatal(goldens, err)
	}
	judge := func(text string) (string, error) {
		config := filepath.Join(t.TempDir(), "haproxy.cfg")
		must(t, os.WriteFile(config, []byte(strings.ReplaceAll(text, balancer.CAFile, ca)), 0o644))
		cmd, err := set.Command(t.Context(), "haproxy", "-c", "-f", config)
		must(t, err)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, g := range goldens {
		text, err := os.ReadFile(g)
		must(t, err)
		if out, err := judge(string(text)); err != nil || strings.Contains(out, "WARNING") {
			t.Errorf("%s: %v\n%s", g, err, out)
		}
		if out, err := judge(strings.Replace(string(text), "balance random", "balance nothing", 1)); err == nil {
			t.Errorf("haproxy accepts anything: %s", out)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/seal/referee"
	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// The parts of the starter that TestExternal writes in another way.
var signedElsewhere = []string{
	"  mode: shared  ", "  mode: external",
	"  port: 6443\n", "  port: 8443\n",
	"  # loadBalancer: haproxy ", "  loadBalancer: haproxy ",
}

// TestExternal boots a cluster whose certificates OpenSSL signed, with keys that none of its
// machines has. Who asks at its virtual address is served by every API server, and without the
// owner's by the other.
func TestExternal(t *testing.T) {
	e := needLong(t)
	authority := newOffline(t)
	r := e.render(t, rendering{controlPlanes: 2, workers: 1, probe: true, instead: signedElsewhere, offline: authority})
	h := newHA(t, e.startCluster(t, r.dir, r.index, func(o *vm.FleetOptions) {
		o.Machine.MemoryMiB, o.Machine.Disks = pairMemoryMiB, []string{e.probeDisk}
	}), r.index)
	h.pki = authority.dir
	x := &balanced{haCluster: h, roots: x509.NewCertPool(), servers: map[string]string{}}
	x.roots.AppendCertsFromPEM(read(t, filepath.Join(authority.dir, pki.CA+".crt")))
	for _, host := range x.controlPlanes() {
		cert, err := pki.ParseCert(read(t, filepath.Join(r.dir, "pki/hosts", host, "apiserver.crt")))
		if err != nil {
			t.Fatal(err)
		}
		x.servers[string(cert.Raw)] = host
	}
	h.waitReady()
	h.waitDone()
	for _, step := range []struct {
		name string
		run  func(*balanced)
	}{
		{"nodes", func(x *balanced) { x.allNodes() }},
		{"pods", func(x *balanced) { x.podsTalk() }},
		{"inside", (*balanced).hasNoAuthority},
		{"balance", func(x *balanced) { x.servedBy(x.controlPlanes()...) }},
		{"server", (*balanced).ownersServerDies},
	} {
		t.Run(step.name, func(t *testing.T) {
			y := *x
			y.haCluster = h.with(t)
			step.run(&y)
		})
	}
}

// authorityNames are the authorities of a cluster, as their files are called.
var authorityNames = []string{pki.CA, pki.EtcdCA, pki.FrontProxyCA}

// offline is the authorities of a cluster in a directory that no rendering and no machine sees.
type offline struct{ dir string }

func newOffline(t *testing.T) *offline {
	t.Helper()
	o := &offline{t.TempDir()}
	config := filepath.Join(o.dir, "openssl.cnf")
	write(t, config, []byte("[req]\ndistinguished_name = subject\nx509_extensions = authority\n[subject]\n"+
		"[authority]\nbasicConstraints = critical, CA:true\nkeyUsage = critical, keyCertSign, cRLSign\nsubjectKeyIdentifier = hash\n"))
	for _, name := range authorityNames {
		base := filepath.Join(o.dir, name)
		write(t, base+".crt", nil)
		referee.Must(t, "openssl", "req", "-x509", "-config", config, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
			"-subj", "/O=example/CN="+strings.ReplaceAll(name, "/", "-"), "-days", "30", "-keyout", base+".key", "-out", base+".crt")
	}
	return o
}

// publish puts the authorities' certificates where a rendering takes them from.
func (o *offline) publish(t *testing.T, dir string) {
	t.Helper()
	for _, name := range authorityNames {
		write(t, filepath.Join(dir, "pki", name+".crt"), read(t, filepath.Join(o.dir, name+".crt")))
	}
}

// sign puts a certificate beside every request that a rendering, whose result this is, waits for.
func (o *offline) sign(t *testing.T, dir, result string) {
	t.Helper()
	var waiting struct{ Pending []string }
	if err := json.Unmarshal([]byte(result), &waiting); err != nil {
		t.Fatal(err)
	}
	for _, p := range waiting.Pending {
		file, signer, asked := strings.Cut(p, ".crt, to be signed by pki/")
		if !asked {
			t.Fatalf("the rendering waits for %s", p)
		}
		file, ca := filepath.Join(dir, file), filepath.Join(o.dir, strings.TrimSuffix(signer, ".crt"))
		referee.Must(t, "openssl", "x509", "-req", "-in", file+".csr", "-CA", ca+".crt", "-CAkey", ca+".key",
			"-days", "30", "-copy_extensions", "copyall", "-out", file+".crt")
	}
	t.Logf("OpenSSL signed %d requests", len(waiting.Pending))
}

// balanced is a cluster whose virtual address leads to all of its API servers.
type balanced struct {
	*haCluster
	// roots is the authority of the API servers.
	roots *x509.CertPool
	// servers are the hosts, by the certificate that their API server has.
	servers map[string]string
}

func (x *balanced) controlPlanes() (out []string) {
	for _, h := range x.index.Hosts {
		if h.Role == node.ControlPlane {
			out = append(out, h.Name)
		}
	}
	return out
}

// hasNoAuthority expects every node to be as kubeadm would have left it, without the keys that
// sign.
func (x *balanced) hasNoAuthority() {
	for _, host := range x.index.Hosts {
		in := x.enter(host.Name)
		in.checks(host.Role)
		files := in.read("sums", "/etc/kubernetes")
		if want := "/pki/ca.crt"; !strings.Contains(files, want) {
			x.Errorf("%s has no %s:\n%s", host.Name, want, files)
		}
		for _, name := range authorityNames {
			if strings.Contains(files, "/pki/"+name+".key") {
				x.Errorf("%s has the key of the authority %s", host.Name, name)
			}
		}
	}
}

// server names the host whose API server answers at an address of the segment.
func (x *balanced) server(address string) (string, error) {
	ctx, cancel := context.WithTimeout(x.Context(), 10*time.Second)
	defer cancel()
	conn, err := x.fleet.Gateway.Dial(ctx, address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	client := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x.roots, ServerName: "kubernetes"})
	if err := client.HandshakeContext(ctx); err != nil {
		return "", err
	}
	host, known := x.servers[string(client.ConnectionState().PeerCertificates[0].Raw)]
	if !known {
		x.Fatalf("at %s is an API server with a certificate that nobody was given", address)
	}
	return host, nil
}

// servedBy expects who asks at the virtual address to be served by all of these hosts.
func (x *balanced) servedBy(hosts ...string) {
	x.Helper()
	x.eventually(fmt.Sprintf("the virtual address leads to %v", hosts), 10*time.Minute, func() error {
		seen := map[string]int{}
		for range 5 * len(hosts) {
			host, err := x.server(x.index.Endpoint)
			if err != nil {
				return err
			}
			seen[host]++
		}
		for _, host := range hosts {
			if seen[host] == 0 {
				return fmt.Errorf("it leads to %v", seen)
			}
		}
		x.Logf("the virtual address led to %v", seen)
		return nil
	})
}

// ownersServerDies kills the API server beside the virtual address. Until it is back the address
// stays and leads to the other.
func (x *balanced) ownersServerDies() {
	owner := x.owner()
	beside := net.JoinHostPort(owner.Host.Address.String(), "6443")
	in := x.enter(owner.Host.Name)
	id := x.kubectl("get", "pod", "-n", "kube-system", "kube-apiserver-"+owner.Host.Name, "-o", "jsonpath={.status.containerStatuses[0].containerID}")
	_, id, _ = strings.Cut(id, "://")
	// Its answer is lost where it came through the server that it ends.
	out, err := in.probeCommand("exec", "/usr/bin/systemctl", "kill", "--signal=KILL", "cri-containerd-"+id+".scope")
	killed := time.Now()
	if _, still := x.server(beside); still == nil {
		x.Fatalf("the API server of %s answers after it was killed: %v\n%s", owner.Host.Name, err, out)
	}
	var served []string
	var first time.Duration
	for limit := time.Now().Add(15 * time.Minute); ; {
		host, err := x.server(x.index.Endpoint)
		if _, down := x.server(beside); down == nil {
			break
		}
		if err == nil {
			if served = append(served, host); len(served) == 1 {
				first = time.Since(killed)
			}
		}
		if time.Now().After(limit) {
			x.Fatalf("the API server of %s does not come back", owner.Host.Name)
		}
		time.Sleep(time.Second)
	}
	x.Logf("without the API server of %s for %s: served %d times, first after %s", owner.Host.Name, time.Since(killed).Round(time.Second), len(served), first.Round(10*time.Millisecond))
	if len(served) == 0 || slices.Contains(served, owner.Host.Name) {
		x.Errorf("while the API server of %s was gone, connections to the virtual address were served by %v", owner.Host.Name, served)
	}
	if now := x.owner(); now != owner {
		x.Errorf("the virtual address went from %s to %s", owner.Host.Name, now.Host.Name)
	}
	x.servedBy(x.controlPlanes()...)
}

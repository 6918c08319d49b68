// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/cluster-bootstrap/token/jws"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// fakeAPI shows anonymous people what an API server of a cluster with pki.mode generate shows.
type fakeAPI struct {
	*httptest.Server
	maps map[string]map[string]string
	ca   *pki.Pair
}

func (a *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, ok := a.maps[filepath.Base(r.URL.Path)]
	if !ok {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	_ = json.NewEncoder(w).Encode(corev1.ConfigMap{Data: data})
}

// serveCluster starts an API server whose cluster-info the token of a rendered directory signed.
func serveCluster(t *testing.T, m *pki.Maker, s *secrets) *fakeAPI {
	t.Helper()
	key, err := m.Key()
	if err != nil {
		t.Fatal(err)
	}
	a := &fakeAPI{maps: map[string]map[string]string{}}
	if a.ca, err = m.Authority(pki.Spec{Name: "ca", CommonName: "kubernetes"}, key); err != nil {
		t.Fatal(err)
	}
	local := netip.MustParseAddr("127.0.0.1")
	leaf, err := m.Leaf(pki.Spec{Name: "apiserver", CommonName: "kube-apiserver", Server: true, IPs: []netip.Addr{local}}, a.ca)
	if err != nil {
		t.Fatal(err)
	}
	a.Server = httptest.NewUnstartedServer(a)
	a.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Cert.Raw}, PrivateKey: leaf.Key}}}
	a.StartTLS()
	t.Cleanup(a.Close)
	at := netip.MustParseAddrPort(a.Listener.Addr().String())
	document, err := kubeconfig.Discovery(&kubeadm.Config{EndpointHost: at.Addr().String(), EndpointPort: int32(at.Port()), EndpointSet: true}, a.ca.CertPEM())
	if err != nil {
		t.Fatal(err)
	}
	id, secret, _ := s.BootstrapToken.Split()
	signature, err := jws.ComputeDetachedSignature(string(document), id, secret)
	if err != nil {
		t.Fatal(err)
	}
	a.maps["cluster-info"] = map[string]string{"kubeconfig": string(document), "jws-kubeconfig-" + id: signature}
	return a
}

// TestKubeconfigOfAClusterWithItsOwnAuthority: the key is made here and stays, its public half is
// in the documents of control planes, and the certificate comes from the cluster.
func TestKubeconfigOfAClusterWithItsOwnAuthority(t *testing.T) {
	dir := t.TempDir()
	text := strings.Replace(starter(t, 3, 1), "mode: shared  ", "mode: generate", 1)
	rendered(t, parse(t, text), dir)
	document := readHost(t, dir, "hosts/demo-cp-2.ign").document(t)
	public, err := pki.ParsePublicKey([]byte(document.PKI.AdminKey))
	if err != nil {
		t.Fatal(err)
	}
	if w := readHost(t, dir, "hosts/demo-w-1.ign").document(t); w.PKI.AdminKey != "" {
		t.Error("a worker is given the administrator's key")
	}
	for _, h := range []string{"demo-cp-1", "demo-cp-2", "demo-w-1"} {
		for _, line := range strings.Split(strings.TrimSpace(read(t, dir, "pki/admin.key")), "\n")[1:3] {
			if strings.Contains(read(t, dir, "hosts/"+h+".ign"), line) {
				t.Errorf("%s is given the administrator's private key", h)
			}
		}
	}
	s, err := readSecrets(dir, "demo")
	if err != nil {
		t.Fatal(err)
	}
	m := &pki.Maker{Algorithm: node.ECDSAP256, CAValidity: 99999 * time.Hour, Validity: 99999 * time.Hour, Now: now}
	api := serveCluster(t, m, s)
	ix, err := ReadIndex(dir)
	if err != nil {
		t.Fatal(err)
	}
	ix.Endpoint = strings.TrimPrefix(api.URL, "https://")
	ix.Hosts = ix.Hosts[:0] // nobody answers at their addresses
	index, err := json.Marshal(ix)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, IndexFile), index, 0o644); err != nil {
		t.Fatal(err)
	}

	fails := func(what string) {
		t.Helper()
		_, err := Kubeconfig(t.Context(), dir, Way{})
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %q", err, what)
		}
		if _, err := os.Stat(filepath.Join(dir, KubeconfigFile)); err == nil {
			t.Errorf("with %q there is a kubeconfig", what)
		}
	}
	fails("has not published a certificate for the administrator yet (403 Forbidden)")
	spec := pki.Users("")[kubeconfig.Admin]
	publish := func(of func() ([]byte, error)) {
		t.Helper()
		pem, err := of()
		if err != nil {
			t.Fatal(err)
		}
		api.maps[addons.AdminConfigMap] = map[string]string{addons.AdminCertificate: string(pem)}
	}
	publish(func() ([]byte, error) { // for somebody else's key
		p, err := m.Leaf(spec, api.ca)
		if err != nil {
			return nil, err
		}
		return p.CertPEM(), nil
	})
	fails("its key belongs to another certificate")
	publish(func() ([]byte, error) {
		cert, err := m.ForKey(spec, public, api.ca)
		if err != nil {
			return nil, err
		}
		return (&pki.Pair{Cert: cert}).CertPEM(), nil
	})
	file, err := Kubeconfig(t.Context(), dir, Way{})
	if err != nil {
		t.Fatal(err)
	}
	conf, user, err := kubeconfig.Current([]byte(read(t, dir, KubeconfigFile)))
	if err != nil || conf.Server != api.URL {
		t.Fatalf("%+v %v", conf, err)
	}
	if _, err := tls.X509KeyPair(user.ClientCertificateData, user.ClientKeyData); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	// The authority is known from now on: every host is told, and another cluster that knows
	// the token is not believed.
	rendered(t, parse(t, text), dir)
	if pins := readHost(t, dir, "hosts/demo-w-1.ign").document(t).Join.CACertHashes; len(pins) != 1 || pins[0] != pki.Pin(api.ca.Cert) {
		t.Errorf("pins %v", pins)
	}
	// The way to the servers may be another than this machine's network, and other servers.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	asked := 0
	way := Way{Servers: []string{"127.0.0.1:1"}, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if asked++; address != "127.0.0.1:1" {
			t.Errorf("asked %s", address)
		}
		return (&net.Dialer{}).DialContext(ctx, network, strings.TrimPrefix(api.URL, "https://"))
	}}
	if _, err := Kubeconfig(t.Context(), dir, way); err != nil || asked != 3 {
		t.Errorf("by another way: %d connections, %v", asked, err)
	}
	other := serveCluster(t, m, s)
	ix.Endpoint = strings.TrimPrefix(other.URL, "https://")
	if index, err = json.Marshal(ix); err == nil {
		err = os.WriteFile(filepath.Join(dir, IndexFile), index, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Kubeconfig(t.Context(), dir, Way{}); err == nil || !strings.Contains(err.Error(), "not the one to join") || !strings.Contains(err.Error(), filepath.Join(dir, "pki/ca.crt")+" is gone, remove that") || !errors.Is(err, ErrOtherCluster) || fault.ClassOf(err) != fault.Network {
		t.Errorf("another cluster: %v", err)
	}
}

func TestKubeconfigIsForModeGenerate(t *testing.T) {
	dir := t.TempDir()
	rendered(t, parse(t, starter(t, 1, 1)), dir)
	var f *fault.Error
	if _, err := Kubeconfig(t.Context(), dir, Way{}); !errors.As(err, &f) || !strings.Contains(err.Error(), "pki.mode is shared") {
		t.Error(err)
	}
}

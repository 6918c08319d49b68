// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

func TestProbe(t *testing.T) {
	maker := func(at time.Time) *pki.Maker {
		return &pki.Maker{Algorithm: node.ECDSAP256, CAValidity: 24 * time.Hour, Validity: time.Hour, Now: at}
	}
	authority := func() *pki.Pair {
		m := maker(time.Now().Add(-12 * time.Hour))
		key, err := m.Key()
		if err != nil {
			t.Fatal(err)
		}
		ca, err := m.Authority(pki.Spec{Name: "ca", CommonName: "kubernetes"}, key)
		if err != nil {
			t.Fatal(err)
		}
		return ca
	}
	ours, theirs := authority(), authority()
	for name, tc := range map[string]struct {
		signer  *pki.Pair
		made    time.Duration // before now
		address string        // in the certificate
		status  int
		header  string
		want    string
	}{
		"an API server":                     {ours, 0, "127.0.0.1", 200, "Audit-Id", ""},
		"one that refuses":                  {ours, 0, "127.0.0.1", 401, "Audit-Id", ""},
		"one that is not ready":             {ours, 0, "127.0.0.1", 500, "Audit-Id", ""},
		"its certificate expired":           {ours, 8 * time.Hour, "127.0.0.1", 200, "Audit-Id", ""},
		"the clock here is behind":          {ours, -time.Hour, "127.0.0.1", 200, "Audit-Id", ""},
		"another cluster":                   {theirs, 0, "127.0.0.1", 200, "Audit-Id", "unknown authority"},
		"under another address":             {ours, 0, "127.0.0.2", 200, "Audit-Id", "127.0.0.2"},
		"a load balancer without a backend": {ours, 0, "127.0.0.1", 503, "Server", "no API server"},
	} {
		t.Run(name, func(t *testing.T) {
			leaf, err := maker(time.Now().Add(-tc.made)).Leaf(pki.Spec{Name: "apiserver", CommonName: "kube-apiserver", Server: true, IPs: []netip.Addr{netip.MustParseAddr(tc.address)}}, tc.signer)
			if err != nil {
				t.Fatal(err)
			}
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set(tc.header, "x")
				w.WriteHeader(tc.status)
			}))
			srv.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Cert.Raw}, PrivateKey: leaf.Key}}}
			srv.StartTLS()
			defer srv.Close()
			err = Probe(t.Context(), srv.URL, ours.CertPEM())
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
	if err := Probe(t.Context(), "https://127.0.0.1:1", []byte("x")); err == nil || !strings.Contains(err.Error(), "holds no certificate") {
		t.Error(err)
	}
	if err := Probe(t.Context(), "https://127.0.0.1:1", ours.CertPEM()); err == nil {
		t.Error("nobody answers and is a cluster")
	}
}

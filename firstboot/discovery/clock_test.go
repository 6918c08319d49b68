// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// authorityAt is an authority made at a moment, for a day, with its maker.
func authorityAt(t *testing.T, at time.Time) (*pki.Pair, *pki.Maker) {
	t.Helper()
	m := &pki.Maker{Algorithm: node.ECDSAP256, CAValidity: 24 * time.Hour, Validity: time.Hour, Now: at}
	key, err := m.Key()
	if err != nil {
		t.Fatal(err)
	}
	ca, err := m.Authority(pki.Spec{Name: "ca", CommonName: "kubernetes"}, key)
	if err != nil {
		t.Fatal(err)
	}
	return ca, m
}

// A machine with a wrong clock does not believe the cluster's certificate. It is told that it is
// the clock, and not what else a certificate may lack.
func TestFindNamesTheClock(t *testing.T) {
	const day, none = 24 * time.Hour, time.Duration(1)
	for name, tc := range map[string]struct {
		made, says time.Duration // from now, when the server's certificate was made and what its clock says
		foreign    bool          // the certificate is of another authority
		clock      bool
		want       string
	}{
		"alike":                            {0, 0, false, false, ""},
		"apart, and the certificate holds": {0, 4 * time.Minute, false, false, ""},
		"this machine is behind":           {2 * day, 2 * day, false, true, "x509: certificate has expired or is not yet valid"},
		"this machine is ahead":            {-2 * day, -2 * day, false, true, "x509: certificate has expired or is not yet valid"},
		"it has expired":                   {-2 * day, 0, false, false, "x509: certificate has expired or is not yet valid"},
		"expired, and it says no time":     {-2 * day, none, false, false, "x509: certificate has expired or is not yet valid"},
		"an impostor that is apart":        {0, 2 * day, true, false, "x509: certificate signed by unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			ca, maker := authorityAt(t, time.Now().Add(tc.made))
			text, err := yaml.Marshal(clientcmd.Config{Clusters: []clientcmd.NamedCluster{{Cluster: clientcmd.Cluster{Server: "https://api.example:6443", CertificateAuthorityData: ca.CertPEM()}}}})
			if err != nil {
				t.Fatal(err)
			}
			if tc.foreign {
				ca, maker = authorityAt(t, time.Now().Add(tc.made))
			}
			leaf, err := maker.Leaf(pki.Spec{Name: "apiserver", CommonName: "kube-apiserver", Server: true, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}, ca)
			if err != nil {
				t.Fatal(err)
			}
			date := time.Now().Add(tc.says).UTC()
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", date.Format(http.TimeFormat))
				if tc.says == none {
					w.Header()["Date"] = nil
				}
				_ = json.NewEncoder(w).Encode(corev1.ConfigMap{Data: sign(string(text), token)})
			}))
			srv.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Cert.Raw}, PrivateKey: leaf.Key}}}
			srv.Config.ErrorLog = log.New(io.Discard, "", 0)
			srv.StartTLS()
			defer srv.Close()
			began := time.Now().UTC().Format(time.DateOnly)
			c, err := Find(t.Context(), Question{Servers: []string{srv.URL}, Tokens: []kubeadm.Token{token}})
			if tc.want == "" {
				if err != nil || c.Date.Sub(date).Abs() > time.Second {
					t.Errorf("%+v %v", c, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) || errors.Is(err, ErrClock) != tc.clock || errors.Is(err, ErrUntrusted) {
				t.Fatalf("%v, want %q, of the clock: %v", err, tc.want, tc.clock)
			}
			if strings.HasPrefix(err.Error(), "with the cluster's authority: ") == tc.clock {
				t.Error(err)
			}
			for _, part := range []string{"that of this machine says " + began, " and that of " + srv.URL + " " + date.Format(time.RFC3339) + "; let both reach a time server ("} {
				if strings.Contains(err.Error(), part) != tc.clock {
					t.Errorf("%v, want %q: %v", err, part, tc.clock)
				}
			}
		})
	}
}

func TestApart(t *testing.T) {
	for skew, want := range map[time.Duration]bool{0: false, 50 * time.Second: false, -50 * time.Second: false, 70 * time.Second: true, -70 * time.Second: true, 1e6 * time.Hour: true} {
		if err := Apart("b", time.Now().Add(skew)); (err != nil) != want || err != nil && !errors.Is(err, ErrClock) {
			t.Errorf("%s: %v", skew, err)
		}
	}
	if err := Apart("b", time.Time{}); err != nil {
		t.Error(err)
	}
}

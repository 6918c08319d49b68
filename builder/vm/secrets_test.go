// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ignition "github.com/coreos/ignition/v2/config/v3_5"
	"github.com/vincent-petithory/dataurl"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// TestSingleNode lets Ignition's own parser and the node document's judge the config.
func TestSingleNode(t *testing.T) {
	large := bytes.Repeat([]byte("0123456789"), 16<<10)
	config, err := Options{NodeName: "cp-7", Files: []GuestFile{{Path: "/var/lib/x", Mode: 0o755, Data: []byte{0, 1, 2}}, {Path: "/var/lib/y", Data: large}}}.generate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cfg, report, err := ignition.Parse(config)
	if err != nil || len(report.Entries) > 0 {
		t.Fatalf("%v\n%s", err, report)
	}
	modes := map[string]int{}
	for _, f := range cfg.Storage.Files {
		modes[f.Path] = *f.Mode
		data, err := dataurl.DecodeString(*f.Contents.Source)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case f.Path == node.Path:
			doc, err := node.Parse(f.Path, data.Data)
			if err != nil {
				t.Fatal(err)
			}
			if doc.Role != node.ControlPlane || doc.Node.Name != "cp-7" || doc.PKI.Mode != node.PKIShared {
				t.Errorf("document: %+v", doc)
			}
		case f.Path == "/var/lib/y":
			r, err := gzip.NewReader(bytes.NewReader(data.Data))
			if err != nil || *f.Contents.Compression != "gzip" {
				t.Fatalf("%s: %v", f.Path, err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, large) {
				t.Errorf("%s: %d bytes, %v", f.Path, len(got), err)
			}
		case f.Path == "/var/lib/x" && string(data.Data) != "\x00\x01\x02":
			t.Errorf("%s: %q", f.Path, data.Data)
		}
	}
	for path, mode := range map[string]int{
		"/etc/kubernetes/pki/ca.key": 0o600, "/etc/kubernetes/pki/etcd/ca.key": 0o600, "/etc/kubernetes/pki/front-proxy-ca.key": 0o600,
		"/etc/kubernetes/pki/sa.key": 0o600, "/etc/kubernetes/pki/ca.crt": 0o644, node.Path: 0o600, "/etc/hostname": 0o644, "/var/lib/x": 0o755,
	} {
		if modes[path] != mode {
			t.Errorf("%s has mode %o, want %o", path, modes[path], mode)
		}
	}
}

func TestAuthorityErrors(t *testing.T) {
	a, b := mustConfig(t), mustConfig(t)
	mixed := strings.Replace(string(a), source(t, a, "ca.key"), source(t, b, "ca.key"), 1)
	for text, want := range map[string]string{
		`{"ignition":{"version":"3.5.0"}}`: "does not carry",
		`nonsense SECRET`:                  "is not JSON",
		mixed:                              "does not belong",
	} {
		_, err := authority([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	if _, err := authority([]byte(`{}`)); !errors.Is(err, ErrNoAuthority) {
		t.Errorf("empty: %v", err)
	}
}

// Large keys are compressed in rendered configs.
func TestAuthorityOfLargeKeys(t *testing.T) {
	m := maker(time.Now())
	m.Algorithm = node.RSA4096
	files, err := authorityFiles(m, pki.Spec{Name: pki.CA, CommonName: "kubernetes"})
	if err != nil {
		t.Fatal(err)
	}
	config, err := Guest{Files: files}.Ignition()
	if err != nil || !strings.Contains(string(config), `"gzip"`) {
		t.Fatalf("nothing is compressed, %v", err)
	}
	if _, err := authority(config); err != nil {
		t.Error(err)
	}
}

func mustConfig(t *testing.T) []byte {
	t.Helper()
	c, err := Options{NodeName: "cp-1"}.generate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func source(t *testing.T, config []byte, name string) string {
	t.Helper()
	cfg, _, err := ignition.Parse(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range cfg.Storage.Files {
		if f.Path == "/etc/kubernetes/pki/"+name {
			text, _ := json.Marshal(*f.Contents.Source)
			return string(text)
		}
	}
	t.Fatalf("%s is not in the config", name)
	return ""
}

// fakeAPI is an API server with a certificate as firstboot makes it: for names, not for the
// loopback address. nodes is what it answers.
func fakeAPI(t *testing.T, ca *pki.Pair, nodes func() []core.Node) string {
	t.Helper()
	pair, err := maker(time.Now()).Leaf(pki.Spec{CommonName: "kube-apiserver", Signer: pki.CA, Server: true, DNS: []string{"kubernetes"}}, ca)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(ca.Cert)
	mux := http.NewServeMux()
	calls := 0
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		if calls++; calls == 1 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("GET /api/v1/nodes", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") == "" {
			_ = json.NewEncoder(w).Encode(core.NodeList{Items: nodes()})
			return
		}
		for range 4 { // then the server ends the watch, as real ones do
			for _, n := range nodes() {
				_ = json.NewEncoder(w).Encode(map[string]any{"type": "MODIFIED", "object": n})
			}
		}
	})
	mux.HandleFunc("GET /who", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.TLS.PeerCertificates[0].Subject.String()))
	})
	server := httptest.NewUnstartedServer(mux)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{pair.Cert.Raw}, PrivateKey: pair.Key}},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestKubeconfig(t *testing.T) {
	ca, err := authority(mustConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	address := fakeAPI(t, ca, nil)
	path := filepath.Join(t.TempDir(), "admin.conf")
	for range 2 { // the second call replaces the file
		if err := writeKubeconfig(path, address, ca, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	rest, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(rest.CertData, rest.KeyData)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(rest.CAData)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: rest.ServerName, Certificates: []tls.Certificate{pair}}}}
	resp, err := client.Get(rest.Host + "/who")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	who := make([]byte, 200)
	k, _ := resp.Body.Read(who)
	if got := string(who[:k]); got != "CN=kubernetes-admin,O=kubeadm:cluster-admins" {
		t.Errorf("the server saw %q", got)
	}
}

// TestWatch sees the first answer, then a stale Ready of an earlier boot, then Ready.
func TestWatch(t *testing.T) {
	ca, err := authority(mustConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	since := time.Now().Truncate(time.Second)
	condition := func(status core.ConditionStatus, beat time.Time) []core.Node {
		return []core.Node{{Status: core.NodeStatus{Conditions: []core.NodeCondition{{Type: core.NodeReady, Status: status, LastHeartbeatTime: meta.NewTime(beat)}}}}}
	}
	answers := [][]core.Node{nil, condition(core.ConditionTrue, since.Add(-time.Minute)), condition(core.ConditionFalse, since.Add(time.Minute)), condition(core.ConditionTrue, since.Add(time.Minute))}
	asked := 0
	address := fakeAPI(t, ca, func() []core.Node { asked++; return answers[min(asked, len(answers))-1] })
	config, err := clientTLS(ca, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	err = newWatcher(address, config, since).watch(t.Context(), func() { seen = append(seen, "answered") }, func() { seen = append(seen, "ready") })
	if err != nil || strings.Join(seen, " ") != "answered ready" || asked != len(answers)+1 { // and once for all nodes
		t.Errorf("%v, saw %v after %d questions", err, seen, asked)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := newWatcher("127.0.0.1:1", config, since).watch(ctx, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestGuestUnits(t *testing.T) {
	ca, err := ClusterCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	config, err := Options{Guest: &Guest{Files: ca, Units: []GuestUnit{{Name: "x.service", Contents: "[Service]\nExecStart=/bin/true\n"}}},
		Units: []GuestUnit{{Name: "y.service", Contents: "[Service]\nExecStart=/bin/false\n"}}}.generate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cfg, report, err := ignition.Parse(config)
	if err != nil || report.IsFatal() {
		t.Fatalf("%v\n%s", err, report)
	}
	if u := cfg.Systemd.Units; len(u) != 2 || u[0].Name != "x.service" || u[1].Name != "y.service" || !*u[0].Enabled || !*u[1].Enabled {
		t.Errorf("units %+v", u)
	}
	if _, err := authority(config); err != nil {
		t.Errorf("the authority is not found again: %v", err)
	}
}

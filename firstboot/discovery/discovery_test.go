// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"
	"k8s.io/cluster-bootstrap/token/jws"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
)

var token = kubeadm.Token{ID: "abcdef", Secret: "0123456789abcdef"}

// api serves cluster-info the way an API server does.
type api struct {
	*httptest.Server
	data   map[string]string
	status int
	// swap replaces the document after so many requests.
	swap  int
	count int
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.count++
	if a.status != 0 {
		w.WriteHeader(a.status)
		return
	}
	data := a.data
	if a.swap > 0 && a.count > a.swap {
		data = sign("other", token)
	}
	_ = json.NewEncoder(w).Encode(corev1.ConfigMap{Data: data})
}

func sign(document string, t kubeadm.Token) map[string]string {
	sig, err := jws.ComputeDetachedSignature(document, t.ID, t.Secret.Reveal())
	if err != nil {
		panic(err)
	}
	return map[string]string{"kubeconfig": document, "jws-kubeconfig-" + t.ID: sig}
}

func (a *api) document() string {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw})
	text, err := yaml.Marshal(clientcmd.Config{Clusters: []clientcmd.NamedCluster{{Cluster: clientcmd.Cluster{Server: "https://api.example:6443", CertificateAuthorityData: ca}}}})
	if err != nil {
		panic(err)
	}
	return string(text)
}

func serve(t *testing.T) *api {
	a := &api{}
	a.Server = httptest.NewTLSServer(a)
	t.Cleanup(a.Close)
	a.data = sign(a.document(), token)
	return a
}

func TestFind(t *testing.T) {
	good := kubeadm.Token{ID: "zzzzzz", Secret: "0123456789abcdef"}
	for name, tc := range map[string]struct {
		change func(*api, *Question)
		want   string
		final  bool
	}{
		"pinned":             {func(*api, *Question) {}, "", false},
		"token alone":        {func(_ *api, q *Question) { q.Pins = nil }, "", false},
		"second token":       {func(_ *api, q *Question) { q.Tokens = []kubeadm.Token{good, token} }, "", false},
		"second server":      {func(_ *api, q *Question) { q.Servers = append([]string{"https://127.0.0.1:1"}, q.Servers...) }, "", false},
		"another pin":        {func(_ *api, q *Question) { q.Pins = []string{"sha256:" + strings.Repeat("0", 64)} }, "its authority is sha256:", true},
		"another secret":     {func(_ *api, q *Question) { q.Tokens[0].Secret = "ffffffffffffffff" }, "not made with the token's secret", true},
		"unknown token":      {func(_ *api, q *Question) { q.Tokens = []kubeadm.Token{good} }, "not signed with bootstrap token [zzzzzz]", false},
		"no token":           {func(_ *api, q *Question) { q.Tokens = nil }, "not signed", false},
		"not published":      {func(a *api, _ *Question) { a.status = 404 }, "not published cluster-info yet (404", false},
		"not ready":          {func(a *api, _ *Question) { a.status = 503 }, "answers 503", false},
		"empty":              {func(a *api, _ *Question) { a.data = nil }, "cluster-info is empty", false},
		"swapped":            {func(a *api, _ *Question) { a.swap = 1 }, "another than the one it showed first", true},
		"nobody":             {func(_ *api, q *Question) { q.Servers = []string{"https://127.0.0.1:1"} }, "https://127.0.0.1:1 does not answer: ", false},
		"no server":          {func(_ *api, q *Question) { q.Servers = nil }, "no server is known", false},
		"not a kubeconfig":   {func(a *api, _ *Question) { a.data = sign("clusters: []", token) }, "a kubeconfig with one cluster", false},
		"without authority":  {func(a *api, _ *Question) { a.data = sign("clusters: [{cluster: {server: x}}]", token) }, "names no authority", false},
		"changed after sign": {func(a *api, _ *Question) { a.data["kubeconfig"] += "#" }, "not made with the token's secret", true},
	} {
		t.Run(name, func(t *testing.T) {
			a := serve(t)
			q := Question{Servers: []string{a.URL}, Tokens: []kubeadm.Token{token}, Pins: []string{pin(a.Certificate())}}
			tc.change(a, &q)
			c, err := Find(t.Context(), q)
			if tc.want == "" {
				if err != nil || c.Endpoint != "https://api.example:6443" || c.Server != a.URL || c.Token != token || c.Date.IsZero() {
					t.Fatalf("%+v %v", c, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) || errors.Is(err, ErrUntrusted) != tc.final {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "0123456789abcdef") {
				t.Errorf("a secret is in %v", err)
			}
		})
	}
}

// TestFindRefusesAnImpostor: whoever serves the right document without the key of the
// authority in it is found out by the second request.
func TestFindRefusesAnImpostor(t *testing.T) {
	real, impostor := serve(t), &api{}
	other := httptest.NewUnstartedServer(impostor)
	other.StartTLS()
	defer other.Close()
	impostor.data = real.data
	// httptest's servers share a certificate; a name that it does not cover does as well.
	c, err := Find(t.Context(), Question{Servers: []string{strings.Replace(other.URL, "127.0.0.1", "localhost", 1)}, Tokens: []kubeadm.Token{token}})
	if err == nil || !strings.Contains(err.Error(), "with the cluster's authority") {
		t.Errorf("%+v %v", c, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("clusters: [{cluster: {server: x, certificate-authority-data: AAAA}}]")
	f.Fuzz(func(t *testing.T, document string) {
		c, err := parse(document, nil)
		if err == nil && len(c.CAPEM) < 2 {
			t.Error("no authority")
		}
	})
}

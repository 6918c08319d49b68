// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// store is an API server that keeps what it is given, by path.
type store struct {
	mu      sync.Mutex
	objects map[string]map[string]any
	// invalid is a path at which nothing is accepted.
	invalid string
	// wrote are the paths of what was written.
	wrote []string
	uid   int
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := r.URL.Path
	body := map[string]any{}
	_ = json.NewDecoder(r.Body).Decode(&body)
	meta, _ := body["metadata"].(map[string]any)
	if r.Method == http.MethodPost {
		path += "/" + meta["name"].(string)
	}
	have := s.objects[path]
	refuse := func(code int, reason metav1.StatusReason) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Reason: reason, Code: int32(code)})
	}
	switch {
	case path == "/livez":
	case path == "/api/v1/nodes":
		list := []any{}
		for at, o := range s.objects {
			if strings.HasPrefix(at, path+"/") {
				list = append(list, o)
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": "v1", "kind": "NodeList", "items": list})
		return
	case r.Method == http.MethodPost && have != nil:
		refuse(http.StatusConflict, metav1.StatusReasonAlreadyExists)
	case r.Method != http.MethodPost && have == nil:
		refuse(http.StatusNotFound, metav1.StatusReasonNotFound)
	case r.Method != http.MethodGet && path == s.invalid:
		refuse(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid)
	case r.Method != http.MethodGet:
		s.uid++
		if meta["uid"] = fmt.Sprint(s.uid); have != nil {
			meta["uid"] = have["metadata"].(map[string]any)["uid"]
		}
		if r.Method == http.MethodPatch { // of what firstboot changes, whole parts
			patch := body
			body = maps.Clone(have)
			for part, fields := range patch {
				whole, _ := have[part].(map[string]any)
				whole = maps.Clone(whole)
				maps.Copy(whole, fields.(map[string]any))
				body[part] = whole
			}
		}
		s.objects[path], s.wrote = body, append(s.wrote, path)
		have = body
		fallthrough
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(have)
	}
}

// put keeps an object.
func (s *store) put(t *testing.T, path string, object any) {
	t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	o := map[string]any{}
	if err := json.Unmarshal(text, &o); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[path] = o
}

// get reads an object, and says whether it is there.
func (s *store) get(t *testing.T, path string, into any) bool {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[path]
	text, err := json.Marshal(o)
	if err == nil && o != nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
	return o != nil
}

// serveOwnAPI makes a handler the API server of a control plane, with the certificate that it
// has for itself.
func serveOwnAPI(t *testing.T, s *State, h http.Handler) {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	t.Cleanup(srv.Close)
	s.Config.Address, s.Config.APIPort = netip.MustParseAddr("127.0.0.1"), int32(srv.Listener.Addr().(*net.TCPAddr).Port)
	mode := s.Config.PKIMode
	s.Config.PKIMode = node.PKIShared // the authorities are there
	if _, err := pki.Ensure(t.Context(), s.Root, s.Config, s.maker()); err != nil {
		t.Fatal(err)
	}
	s.Config.PKIMode = mode
	pair, err := tls.LoadX509KeyPair(s.path(kubeadm.PKIDir+"/apiserver.crt"), s.path(kubeadm.PKIDir+"/apiserver.key"))
	if err != nil {
		t.Fatal(err)
	}
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	srv.Config.ErrorLog = quiet
	srv.StartTLS()
}

// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
)

// server answers like an API server that holds objects by path; failures are returned
// first, one per request.
type server struct {
	mu       sync.Mutex
	failures []metav1.StatusReason
	objects  map[string]map[string]any
	log      []string
	revision int
	taken    string // why the address of an invalid object is refused
	conflict int    // so many writes find that somebody else was faster
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, r.Method+" "+r.URL.Path)
	if len(s.failures) > 0 {
		reason := s.failures[0]
		s.failures = s.failures[1:]
		s.fail(w, reason)
		return
	}
	body, _ := io.ReadAll(r.Body)
	var obj map[string]any
	_ = json.Unmarshal(body, &obj)
	path := r.URL.Path
	switch r.Method {
	case http.MethodPost:
		path += "/" + obj["metadata"].(map[string]any)["name"].(string)
		if s.objects[path] != nil {
			s.fail(w, metav1.StatusReasonAlreadyExists)
			return
		}
		s.store(w, path, obj)
	case http.MethodPut, http.MethodPatch:
		old := s.objects[path]
		if old == nil {
			s.fail(w, metav1.StatusReasonNotFound)
			return
		}
		meta := obj["metadata"].(map[string]any)
		if s.conflict > 0 {
			s.conflict--
			s.revision++
			old["metadata"].(map[string]any)["resourceVersion"] = fmt.Sprint(s.revision)
		}
		if meta["resourceVersion"] != old["metadata"].(map[string]any)["resourceVersion"] {
			s.fail(w, metav1.StatusReasonConflict)
			return
		}
		if r.Method == http.MethodPatch {
			for k, v := range obj {
				for kk, vv := range v.(map[string]any) {
					part, _ := old[k].(map[string]any)
					if part == nil {
						part = map[string]any{}
						old[k] = part
					}
					part[kk] = vv
				}
			}
			obj = old
		}
		s.store(w, path, obj)
	case http.MethodGet:
		if r.URL.Query().Get("watch") != "" {
			name, _ := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{"type": "ADDED", "object": s.objects[path+"/"+name]})
			return // a server may end a watch at any time
		}
		if s.objects[path] == nil {
			s.fail(w, metav1.StatusReasonNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.objects[path])
	}
}

func (s *server) store(w http.ResponseWriter, path string, obj map[string]any) {
	s.revision++
	obj["metadata"].(map[string]any)["resourceVersion"] = fmt.Sprint(s.revision)
	s.objects[path] = obj
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(obj)
}

var codes = map[metav1.StatusReason]int{
	metav1.StatusReasonUnauthorized: 401, metav1.StatusReasonForbidden: 403, metav1.StatusReasonNotFound: 404,
	metav1.StatusReasonAlreadyExists: 409, metav1.StatusReasonConflict: 409, metav1.StatusReasonInvalid: 422,
	metav1.StatusReasonServiceUnavailable: 503, metav1.StatusReasonInternalError: 500, metav1.StatusReasonTooManyRequests: 429,
}

func (s *server) fail(w http.ResponseWriter, reason metav1.StatusReason) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(codes[reason])
	_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Reason: reason, Code: int32(codes[reason]), Message: s.message(reason)})
}

func (s *server) message(reason metav1.StatusReason) string {
	if s.taken != "" && reason == metav1.StatusReasonInvalid {
		return s.taken
	}
	return string(reason)
}

func start(t *testing.T, s *server) *Client {
	t.Helper()
	if s.objects == nil {
		s.objects = map[string]map[string]any{}
	}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	c, err := New(&rest.Config{Host: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	c.Pause = time.Millisecond
	return c
}

func configMap(value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "x", ResourceVersion: "0"}, Data: map[string]string{"k": value}}
}

const configMapPath = "/api/v1/namespaces/kube-system/configmaps/x"

func TestApplyIsPatientWithAStartingServer(t *testing.T) {
	s := &server{failures: []metav1.StatusReason{metav1.StatusReasonUnauthorized, metav1.StatusReasonForbidden, metav1.StatusReasonNotFound,
		metav1.StatusReasonServiceUnavailable, metav1.StatusReasonInternalError, metav1.StatusReasonTooManyRequests}}
	c := start(t, s)
	if err := c.Apply(t.Context(), configMap("1"), false); err != nil {
		t.Fatal(err)
	}
	if len(s.log) != 7 || s.objects[configMapPath] == nil {
		t.Errorf("log %v, objects %v", s.log, s.objects)
	}
}

func TestApplyGivesUpOnAnInvalidObject(t *testing.T) {
	s := &server{failures: []metav1.StatusReason{metav1.StatusReasonInvalid, metav1.StatusReasonInvalid}}
	c := start(t, s)
	err := c.Apply(t.Context(), configMap("hush"), false)
	if err == nil || !strings.Contains(err.Error(), "ConfigMap kube-system/x") || strings.Contains(err.Error(), "hush") {
		t.Errorf("got %v", err)
	}
	if len(s.log) != 1 {
		t.Errorf("log %v", s.log)
	}
}

func TestApplyReplacesOrKeeps(t *testing.T) {
	for _, keep := range []bool{false, true} {
		s := &server{conflict: 2}
		c := start(t, s)
		for _, v := range []string{"1", "2"} {
			obj := configMap(v)
			if err := c.Apply(t.Context(), obj, keep); err != nil {
				t.Fatal(err)
			}
			if obj.ResourceVersion != "0" {
				t.Error("the object given was modified")
			}
		}
		want := map[bool]string{false: "2", true: "1"}[keep]
		if got := s.objects[configMapPath]["data"].(map[string]any)["k"]; got != want {
			t.Errorf("keep %v: value is %v, want %s", keep, got, want)
		}
	}
}

func TestApplyStopsWithItsContext(t *testing.T) {
	c, err := New(&rest.Config{Host: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Apply(ctx, configMap("1"), false); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "ConfigMap kube-system/x") {
		t.Errorf("got %v", err)
	}
}

// TestServiceWhoseAddressIsTaken: another machine is creating the same Service.
func TestServiceWhoseAddressIsTaken(t *testing.T) {
	const path = "/api/v1/namespaces/kube-system/services/x"
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "x"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.10"}}
	s := &server{failures: []metav1.StatusReason{metav1.StatusReasonInvalid}, objects: map[string]map[string]any{
		path: {"kind": "Service", "apiVersion": "v1", "metadata": map[string]any{"name": "x", "resourceVersion": "1"}}}}
	c := start(t, s)
	if err := c.Apply(t.Context(), svc, true); err != nil || len(s.log) != 2 {
		t.Errorf("it exists: %v, %v", err, s.log)
	}
	for _, why := range []string{"", "failed to allocate IP 10.96.0.10: the provided IP (10.96.0.10) is not in the valid range. The range of valid IPs is 10.0.0.0/24"} {
		s = &server{failures: []metav1.StatusReason{metav1.StatusReasonInvalid}, taken: why}
		c = start(t, s)
		if err := c.Apply(t.Context(), svc, true); err == nil || len(s.log) != 2 {
			t.Errorf("invalid for another reason, %q: %v, %v", why, err, s.log)
		}
	}
	for _, why := range []string{"provided IP is already allocated", "failed to allocate IP 10.96.0.10: the provided network does not match the current range",
		"failed to allocate IP 10.96.0.10: etcdserver: request timed out"} {
		s = &server{failures: []metav1.StatusReason{metav1.StatusReasonInvalid}, taken: why}
		c = start(t, s)
		if err := c.Apply(t.Context(), svc, true); err != nil || len(s.log) != 3 {
			t.Errorf("%s: %v, %v", why, err, s.log)
		}
	}
}

func TestServiceKeepsItsAddress(t *testing.T) {
	s := &server{}
	c := start(t, s)
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "x"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.10", ClusterIPs: []string{"10.96.0.10"}}}
	if err := c.Apply(t.Context(), svc, false); err != nil {
		t.Fatal(err)
	}
	svc.Spec.ClusterIP, svc.Spec.ClusterIPs = "", nil
	if err := c.Apply(t.Context(), svc, false); err != nil {
		t.Fatal(err)
	}
	spec := s.objects["/api/v1/namespaces/kube-system/services/x"]["spec"].(map[string]any)
	if spec["clusterIP"] != "10.96.0.10" || fmt.Sprint(spec["clusterIPs"]) != "[10.96.0.10]" {
		t.Errorf("spec %v", spec)
	}
}

func TestPathsOfKinds(t *testing.T) {
	meta := metav1.ObjectMeta{Name: "x"}
	in := metav1.ObjectMeta{Name: "x", Namespace: "n"}
	for want, obj := range map[string]runtime.Object{
		"/api/v1/nodes/x":                                          &corev1.Node{ObjectMeta: meta},
		"/api/v1/namespaces/x":                                     &corev1.Namespace{ObjectMeta: meta},
		"/api/v1/namespaces/n/secrets/x":                           &corev1.Secret{ObjectMeta: in},
		"/api/v1/namespaces/n/serviceaccounts/x":                   &corev1.ServiceAccount{ObjectMeta: in},
		"/apis/apps/v1/namespaces/n/daemonsets/x":                  &appsv1.DaemonSet{ObjectMeta: in},
		"/apis/apps/v1/namespaces/n/deployments/x":                 &appsv1.Deployment{ObjectMeta: in},
		"/apis/rbac.authorization.k8s.io/v1/clusterroles/x":        &rbacv1.ClusterRole{ObjectMeta: meta},
		"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/x": &rbacv1.ClusterRoleBinding{ObjectMeta: meta},
		"/apis/rbac.authorization.k8s.io/v1/namespaces/n/roles/x":  &rbacv1.Role{ObjectMeta: in},
	} {
		s := &server{}
		c := start(t, s)
		if there, err := c.Exists(t.Context(), obj); there || err != nil {
			t.Errorf("%s: exists %v, %v", want, there, err)
		}
		if err := c.Apply(t.Context(), obj, false); err != nil || s.objects[want] == nil {
			t.Errorf("%s: %v, %v", want, err, s.log)
		}
		if there, err := c.Exists(t.Context(), obj); !there || err != nil {
			t.Errorf("%s: exists %v, %v", want, there, err)
		}
	}
	c := start(t, &server{})
	if err := c.Apply(t.Context(), &corev1.Pod{ObjectMeta: in}, false); err == nil {
		t.Error("a kind first boot does not write was written")
	}
	if err := c.Apply(t.Context(), &corev1.Secret{ObjectMeta: meta}, false); err == nil {
		t.Error("a secret without a namespace was written")
	}
}

func TestUpdateNodeWaitsAndStartsOver(t *testing.T) {
	s := &server{conflict: 1, failures: []metav1.StatusReason{metav1.StatusReasonNotFound}, objects: map[string]map[string]any{
		"/api/v1/nodes/n": {"kind": "Node", "apiVersion": "v1", "metadata": map[string]any{"name": "n", "resourceVersion": "7", "labels": map[string]any{"a": "1"}},
			"status": map[string]any{"nodeInfo": map[string]any{"bootID": "boot-1"}, "conditions": []any{map[string]any{"type": "Ready", "status": "True"}}}}}}
	c := start(t, s)
	calls := 0
	err := c.UpdateNode(t.Context(), "n", func(n *corev1.Node) bool {
		calls++
		n.Labels["b"] = "2"
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "k", Effect: "NoSchedule"})
		return true
	})
	if err != nil || calls != 2 {
		t.Fatalf("%v after %d calls", err, calls)
	}
	n, err := c.Node(t.Context(), "n")
	if err != nil || n.Labels["a"] != "1" || n.Labels["b"] != "2" || len(n.Spec.Taints) != 1 {
		t.Errorf("%v %v %v", err, n.Labels, n.Spec.Taints)
	}
	writes := len(s.log)
	if err := c.UpdateNode(t.Context(), "n", func(*corev1.Node) bool { return false }); err != nil || len(s.log) != writes+1 {
		t.Errorf("nothing to change, yet %v, %v", err, s.log[writes:])
	}
	if err := c.WaitReady(t.Context(), "n"); err != nil {
		t.Error(err)
	}
	if err := c.WaitReadyThisBoot(t.Context(), "n", "boot-1"); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var not *NotReadyError
	if err := c.WaitReadyThisBoot(ctx, "n", "boot-2"); !errors.As(err, &not) {
		t.Errorf("ready in another boot: %v", err)
	}
}

func TestFromFileReplacesTheServer(t *testing.T) {
	s := &server{objects: map[string]map[string]any{configMapPath: {"kind": "ConfigMap", "apiVersion": "v1", "metadata": map[string]any{"name": "x"}}}}
	srv := httptest.NewServer(s)
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "admin.conf")
	conf := "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: k, cluster: {server: 'http://127.0.0.1:1'}}]\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nusers: [{name: u, user: {}}]\n"
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := FromFile(file, srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	if there, err := c.Exists(t.Context(), configMap("")); !there || err != nil {
		t.Errorf("exists %v, %v", there, err)
	}
	if _, err := FromFile(filepath.Join(t.TempDir(), "absent"), ""); err == nil {
		t.Error("an absent kubeconfig was accepted")
	}
}

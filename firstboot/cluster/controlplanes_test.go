// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

// answering is a client of a server that gives one answer, and the requests it got.
func answering(t *testing.T, status int, body string) (*Client, *[]string) {
	t.Helper()
	asked := &[]string{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, _ := io.ReadAll(r.Body)
		*asked = append(*asked, r.Method+" "+r.URL.Path+" "+r.Header.Get("Content-Type")+" "+string(sent))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	c, err := New(&rest.Config{Host: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	return c, asked
}

func TestAPIServers(t *testing.T) {
	for _, c := range []struct{ body, want string }{
		{`{"kind":"Endpoints","apiVersion":"v1","subsets":[{"addresses":[{"ip":"192.0.2.11"},{"ip":"192.0.2.12"}],"notReadyAddresses":[{"ip":"192.0.2.13"}],"ports":[{"port":6443}]},{"addresses":[{"ip":"2001:db8::1"}]}]}`,
			"[192.0.2.11 192.0.2.12 2001:db8::1]"},
		{`{"kind":"Endpoints","apiVersion":"v1"}`, "[]"},
	} {
		client, asked := answering(t, http.StatusOK, c.body)
		got, err := client.APIServers(t.Context())
		if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("%v %v, want %s", got, err, c.want)
		}
		if len(*asked) != 1 || !strings.HasPrefix((*asked)[0], "GET /api/v1/namespaces/default/endpoints/kubernetes ") {
			t.Errorf("%q", *asked)
		}
	}
	for _, bad := range []string{`{"subsets":[{"addresses":[{"ip":"x"}]}]}`, "nonsense"} {
		client, _ := answering(t, http.StatusOK, bad)
		if got, err := client.APIServers(t.Context()); err == nil {
			t.Errorf("%s: %v", bad, got)
		}
	}
	client, _ := answering(t, http.StatusForbidden, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"no"}`)
	if got, err := client.APIServers(t.Context()); err == nil || !strings.Contains(err.Error(), "reading the addresses of the API servers") {
		t.Errorf("%v %v", got, err)
	}
}

func TestAnnotate(t *testing.T) {
	client, asked := answering(t, http.StatusOK, `{"kind":"Node","apiVersion":"v1"}`)
	if err := client.Annotate(t.Context(), "cp-1", "example.com/a", "b"); err != nil {
		t.Fatal(err)
	}
	want := `PATCH /api/v1/nodes/cp-1 application/merge-patch+json {"metadata":{"annotations":{"example.com/a":"b"}}}`
	if len(*asked) != 1 || (*asked)[0] != want {
		t.Errorf("%q", *asked)
	}
	client, _ = answering(t, http.StatusNotFound, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
	if err := client.Annotate(t.Context(), "cp-1", "a", "b"); !NotFound(err) {
		t.Error(err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const someDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// registry is a mirror that has every image, and a record of who asked it how.
func registry(t *testing.T, status int, user, password string) (s *httptest.Server, asked *int) {
	asked = new(int)
	s = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked++
		u, p, _ := r.BasicAuth()
		switch {
		case status != http.StatusOK:
			w.WriteHeader(status)
		case u != user || p != password:
			w.WriteHeader(http.StatusForbidden)
		default:
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			w.Header().Set("Content-Length", "7")
			w.Header().Set("Docker-Content-Digest", someDigest)
		}
	}))
	t.Cleanup(s.Close)
	return s, asked
}

// referee runs containerd's own resolver, in the version that images have, over the files of a
// cluster.
func referee(t *testing.T, s *Source, images ...string) (answers []containerdAnswer) {
	t.Helper()
	root := t.TempDir()
	for _, f := range s.registryFiles() {
		put(t, root, strings.TrimPrefix(f.path, registryDir), f.data)
	}
	component, err := filepath.Abs("../../assets/components/containerd")
	if err != nil {
		t.Fatal(err)
	}
	program, err := filepath.Abs("testdata/containerd/main.go")
	if err != nil {
		t.Fatal(err)
	}
	// The program becomes a part of containerd's own pinned module, for this run alone.
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(component, "referee/main.go"): program}})
	if err != nil {
		t.Fatal(err)
	}
	put(t, root, "overlay.json", overlay)
	cmd := exec.Command("go", append([]string{"run", "-overlay", filepath.Join(root, "overlay.json"), "./referee", root}, images...)...)
	cmd.Dir = component
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, problems.String())
	}
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var a containerdAnswer
		if err := dec.Decode(&a); err != nil {
			t.Fatal(err)
		}
		answers = append(answers, a)
	}
	if len(answers) != len(images) || strings.Contains(problems.String(), "failed to decode") {
		t.Fatalf("%s\n%s", out, problems.String())
	}
	return answers
}

type containerdAnswer struct {
	Hosts  []string
	Digest string
	Error  string
}

// The first mirror is down, the second asks for credentials and has a certificate that only
// its own authority vouches for.
func TestContainerdFailsOverToTheNextMirror(t *testing.T) {
	down, downAsked := registry(t, http.StatusServiceUnavailable, "", "")
	up, upAsked := registry(t, http.StatusOK, "robot", "s3cret:with:colons")
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: up.Certificate().Raw}))
	text := with(`registries:
- host: docker.io
  mirrors: [{url: "` + down.URL + `", caFile: ca.pem}, {url: "` + up.URL + `", caFile: ca.pem, credentialsFile: auth}]
- host: "registry.example.org:5000"
  fallback: false
  mirrors: [{url: "` + down.URL + `", caFile: ca.pem}, {url: "` + up.URL + `/v2/proxy", overridePath: true, caFile: ca.pem, credentialsFile: auth}]
- {host: "*", mirrors: [{url: "` + up.URL + `", caFile: ca.pem, credentialsFile: auth}]}`)
	s := parse(t, text, "ca.pem", ca, "auth", "robot:s3cret:with:colons\n")
	got := referee(t, s, "docker.io/library/x:1", "registry.example.org:5000/a/b:2", "other.example.org/c:3")
	for i, want := range [][]string{
		{down.URL + "/v2", up.URL + "/v2", "https://registry-1.docker.io/v2"},
		{down.URL + "/v2", up.URL + "/v2/proxy"},
		{up.URL + "/v2"},
	} {
		if !slices.Equal(got[i].Hosts, want) || got[i].Digest != someDigest || got[i].Error != "" {
			t.Errorf("%+v\nwant hosts %v", got[i], want)
		}
	}
	if *downAsked != 2 || *upAsked != 3 {
		t.Errorf("the first mirror was asked %d times, the second %d times", *downAsked, *upAsked)
	}
}

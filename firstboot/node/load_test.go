// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/imgbuild/imgbuild/firstboot/strict"
)

const minimal = "apiVersion: imgbuild.io/v1alpha1\nkind: Node\nrole: control-plane\n"

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.yaml")
	if _, _, err := Load(path); !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), path) {
		t.Errorf("an absent document: %v", err)
	}
	if err := os.WriteFile(path, []byte(minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	n, digest, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if n.Role != ControlPlane || n.APIServer.Port != 6443 || digest != Digest([]byte(minimal)) || !strings.HasPrefix(digest, "sha256:") {
		t.Errorf("%+v %s", n, digest)
	}
}

func TestDecodingProblemsAreNotReportedTwice(t *testing.T) {
	_, err := Parse("n", []byte(minimal+"apiServer: {port: many}\nnode: {address: [1]}"))
	var ps strict.Problems
	if !errors.As(err, &ps) || len(ps) != 2 {
		t.Errorf("got %v", err)
	}
}

func TestSecretsNeverPrint(t *testing.T) {
	n, err := Parse("n", []byte(minimal+"bootstrapTokens: [{token: abcdef.0123456789abcdef}]\npki: {certificateKey: '"+strings.Repeat("ab", 32)+"'}\ncallback: {url: 'http://x/', token: hush}"))
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%v %+v %#v %s %q %x", n, n, *n, n.BootstrapTokens[0].Token, n.BootstrapTokens[0].Token, n.PKI.CertificateKey) + string(asJSON)
	for _, s := range n.Secrets() {
		if s != "" && strings.Contains(text, s) {
			t.Errorf("%q is shown", s)
		}
	}
	if all := strings.Join(n.Secrets(), " "); !strings.Contains(all, " abcdef.0123456789abcdef 0123456789abcdef") || !strings.Contains(all, "hush") {
		t.Errorf("secrets are %q", all)
	}
}

func ignitionConfig(source string) []byte {
	return fmt.Appendf(nil, `{"ignition":{"version":"3.4.0"},"storage":{"files":[{"path":"/etc/hostname","contents":{"source":"data:,x"}},{"path":"/etc/imgbuild/node.yaml","contents":%s}]}}`, source)
}

func TestFromIgnition(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString([]byte(minimal))
	// echo -n x | gzip -n
	gz := base64.StdEncoding.EncodeToString([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\x00\x00\x83\x16\xdc\x8c\x01\x00\x00\x00"))
	for name, c := range map[string]struct{ source, want, problem string }{
		"base64":  {`{"source":"data:text/yaml;base64,` + b64 + `"}`, minimal, ""},
		"escaped": {`{"source":"data:,apiVersion%3A%20x%0A"}`, "apiVersion: x\n", ""},
		"gzip":    {`{"compression":"gzip","source":"data:;base64,` + gz + `"}`, "x", ""},
		"remote":  {`{"source":"https://example.org/node.yaml"}`, "", "not inline"},
		"empty":   {`{}`, "", "no contents"},
		"broken":  {`{"source":"data:;base64,%%%"}`, "", "invalid"},
	} {
		got, err := FromIgnition("f.ign", ignitionConfig(c.source))
		if c.problem != "" {
			if !errors.Is(err, ErrIgnition) || !strings.Contains(err.Error(), c.problem) || !strings.Contains(err.Error(), "f.ign") {
				t.Errorf("%s: got %v", name, err)
			}
			continue
		}
		if err != nil || string(got) != c.want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	for name, text := range map[string]string{
		"no file":       `{"ignition":{"version":"3.4.0"}}`,
		"other version": `{"ignition":{"version":"9.0.0"}}`,
		"not JSON":      `{`,
		"bad path":      `{"ignition":{"version":"3.4.0"},"storage":{"files":[{"path":"relative"}]}}`,
	} {
		if _, err := FromIgnition("f.ign", []byte(text)); !errors.Is(err, ErrIgnition) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{minimal, minimal + "bootstrapTokens: [{token: abcdef.0123456789abcdef}]", shared, threeControlPlanes,
		clusterOf("endpoint: '192.0.2.9:8443'", ka+", loadBalancer: haproxy"), minimal + "node: {labels: {a: b}, taints: []}\nkubelet: {evictionHard: {memory.available: 5%}}"} {
		f.Add([]byte(text))
	}
	for _, c := range refusals {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := Parse("n", data)
		var ps strict.Problems
		if err != nil && !errors.As(err, &ps) || (n == nil) != (err != nil) {
			t.Fatalf("node %v, error %T %v", n != nil, err, err)
		}
		if n == nil {
			return
		}
		// What was accepted can be written and is accepted again, as the same.
		text, err := yaml.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("again", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if second, err := yaml.Marshal(again); err != nil || string(second) != string(text) {
			t.Errorf("%v\n%s\n%s", err, text, second)
		}
	})
}

func FuzzFromIgnition(f *testing.F) {
	for _, contents := range []string{`{"source":"data:,x"}`, `{"source":"data:;base64,eA=="}`, `{"compression":"gzip","source":"data:;base64,H4sIAAAAAAAAA6sAAIMW3IwBAAAA"}`,
		`{"source":"https://example.org/"}`, `{}`, `null`} {
		f.Add(ignitionConfig(contents))
	}
	f.Add([]byte(`{"ignition":{"version":"3.5.0","config":{"merge":[{"source":"data:,"}]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := FromIgnition("f", data); err != nil && !errors.Is(err, ErrIgnition) {
			t.Errorf("error is %v", err)
		}
	})
}

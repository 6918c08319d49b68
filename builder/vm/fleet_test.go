// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/timeline"
)

// A kubeconfig leads through the proxy while a fleet runs and is what it was afterwards.
func TestSetProxy(t *testing.T) {
	config, err := SingleNode("cp-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	text, err := config.Ignition()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "admin.conf")
	if err := WriteAdmin(path, text, "10.53.0.101:6443"); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	if err := setProxy(path, "http://127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	during, _ := os.ReadFile(path)
	if !strings.Contains(string(during), "proxy-url: http://127.0.0.1:1\n") || !strings.Contains(string(during), "server: https://10.53.0.101:6443\n") {
		t.Error("the kubeconfig does not name the proxy and the server")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := setProxy(path, ""); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the kubeconfig is not what it was before")
	}
	cfg, err := readKubeconfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := kubeconfigTLS(cfg); err != nil || len(c.Certificates) != 1 || c.RootCAs == nil {
		t.Errorf("the user's certificate: %v", err)
	}
	cfg.AuthInfos[0].AuthInfo.ClientKeyData = []byte("-----BEGIN SECRET")
	if _, err := kubeconfigTLS(cfg); err == nil || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("a broken key: %v", err)
	}
	if err := os.WriteFile(path, []byte("secret: x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readKubeconfig(path); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("not a kubeconfig: %v", err)
	}
}

func TestMergeTimelines(t *testing.T) {
	line := func(ready time.Duration) *timeline.Timeline {
		return &timeline.Timeline{Machine: "m", Ready: timeline.Seconds(ready), Spans: []timeline.Span{
			{Group: timeline.Phase, Name: "certs", Start: timeline.Seconds(time.Second), End: timeline.Seconds(2 * time.Second)}}}
	}
	got := mergeTimelines([]hostLine{{"b", time.Second, line(10 * time.Second)}, {"a", 0, line(5 * time.Second)}})
	if got.Ready.D() != 11*time.Second || len(got.Spans) != 2 || got.Spans[0].Name != "a certs" || got.Spans[1].Start.D() != 2*time.Second {
		t.Errorf("%+v", got)
	}
	if n := len(got.Moments); n != 2 || got.Moments[1].Name != "b Ready" || got.Moments[1].At.D() != 11*time.Second {
		t.Errorf("moments %+v", got.Moments)
	}
	if got := mergeTimelines([]hostLine{{"a", 0, line(time.Second)}, {"b", 0, line(0)}}); got.Ready != 0 {
		t.Errorf("Ready at %s although one host is not", got.Ready.D())
	}
}

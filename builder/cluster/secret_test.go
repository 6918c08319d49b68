// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// secretsIn returns every secret of a rendered directory: tokens, and the lines of keys.
func secretsIn(t *testing.T, dir string) []string {
	t.Helper()
	s := &secrets{}
	if err := strict.Decode(SecretsFile, []byte(read(t, dir, SecretsFile)), s).Err(); err != nil {
		t.Fatal(err)
	}
	_, half, _ := s.BootstrapToken.Split()
	out := []string{s.BootstrapToken.Reveal(), half, s.CertificateKey.Reveal()}
	err := filepath.WalkDir(dir, func(at string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(at, ".key") && d.Name() != KubeconfigFile {
			return err
		}
		text, err := os.ReadFile(at)
		for line := range strings.SplitSeq(string(text), "\n") {
			if _, data, ok := strings.Cut(line, "client-key-data: "); ok {
				out = append(out, data)
			} else if strings.HasSuffix(at, ".key") && len(line) > 20 && !strings.HasPrefix(line, "---") {
				out = append(out, line)
			}
		}
		return err
	})
	if err != nil || len(out) < 15 {
		t.Fatalf("%d secrets found, %v", len(out), err)
	}
	return out
}

func TestNoSecretIsSaid(t *testing.T) {
	dir := t.TempDir()
	text := with("registries: [{host: docker.io, mirrors: [{url: 'https://m', credentialsFile: auth}]}]\ncallback: {url: 'https://x/', tokenFile: token}")
	files := []string{"auth", "robot:hush-hush-1\n", "token", "hush-hush-2\n"}
	s := parse(t, text, files...)
	var said strings.Builder
	say := func(v any, err error) {
		asJSON, _ := json.Marshal(v)
		fmt.Fprintf(&said, "%v %+v %#v %s %v\n", v, v, v, asJSON, err)
	}
	r, err := Render(t.Context(), s, Options{Dir: dir, Now: now})
	say(r, err)
	secrets := append(secretsIn(t, dir), "hush-hush-1", "hush-hush-2", "cm9ib3Q6aHVzaC1odXNoLTE=")
	config := read(t, dir, "hosts/cp-1.ign")

	// Whatever goes wrong, nothing of them is in the message.
	render := func() { say(Render(t.Context(), parse(t, text, files...), Options{Dir: dir, Now: now})) }
	damage := func(name string, change func(string) string) {
		was := read(t, dir, name)
		put(t, dir, name, []byte(change(was)))
		render()
		put(t, dir, name, []byte(was))
	}
	for _, name := range []string{SecretsFile, "pki/ca.key", "pki/sa.key", "pki/etcd/ca.key", KubeconfigFile, "hosts/cp-1.ign", IndexFile} {
		damage(name, func(s string) string { return s[:len(s)*2/3] })
		damage(name, func(s string) string { return strings.ReplaceAll(s, "\n", "\n ") })
		damage(name, func(s string) string { return strings.ToUpper(s) })
		damage(name, func(s string) string { return s + s })
	}
	damage(SecretsFile, func(s string) string { return strings.Replace(s, "bootstrapToken: ", "bootstrapToken: x", 1) })
	damage(SecretsFile, func(s string) string { return strings.Replace(s, "certificateKey: ", "certificateKy: ", 1) })
	damage("hosts/cp-1.ign", func(s string) string { return strings.ReplaceAll(s, "5", "6") })
	for _, bad := range []string{"robot:hush-hush-1\nmore", "hush-hush-1"} {
		_, err := Parse("cluster.yaml", place(t, "auth", bad, "token", "hush-hush-2"), []byte(text))
		say(nil, err)
	}
	_, err = Parse("cluster.yaml", place(t, "auth", "a:b", "token", "hush-hush-2 hush-hush-2"), []byte(text))
	say(nil, err)
	say(s.document(&s.Cluster.Hosts[0], &material{token: node.Secret(secrets[0]), certificateKey: node.Secret(secrets[2])}), nil)

	for i, secret := range secrets {
		if strings.Contains(said.String(), secret) {
			t.Errorf("secret %d of %d was said", i, len(secrets))
		}
	}
	if len(said.String()) < 2000 || !strings.Contains(config, "data:") {
		t.Fatal("nothing was said")
	}
	if ix := read(t, dir, IndexFile); strings.Contains(ix, secrets[1]) {
		t.Error("the index holds a token")
	}
	for _, name := range []string{"hosts/cp-1.ign", "hosts/w-1.ign"} {
		h := readHost(t, dir, name)
		for _, f := range h.Storage.Files {
			content, _ := h.file(t, f.Path)
			for _, secret := range secrets {
				if strings.Contains(content, secret) && *f.Mode != 0o600 {
					t.Errorf("%s: %s has a secret and mode %o", name, f.Path, *f.Mode)
				}
			}
		}
	}
}

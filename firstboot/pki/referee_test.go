// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// openssl judges what crypto/x509 made. The reference time lies in the future of some
// machines and in the past of others, so the check is made at that time.
func TestOpensslAgrees(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl on this machine to act as referee")
	}
	for _, alg := range []node.Algorithm{node.ECDSAP256, node.RSA2048} {
		t.Run(string(alg), func(t *testing.T) {
			root := t.TempDir()
			ensure(t, root, kubeadmtest.Config(t), maker(alg))
			dir := filepath.Join(root, kubeadm.PKIDir)
			run := func(args ...string) string {
				t.Helper()
				cmd := exec.Command(openssl, args...)
				cmd.Dir = dir
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
				}
				return string(out)
			}
			at := "1795261600" // a little after the reference time
			for _, s := range Specs(kubeadmtest.Config(t)) {
				run("pkey", "-in", s.Name+".key", "-check", "-noout")
				if pub, cert := run("pkey", "-in", s.Name+".key", "-pubout"), run("x509", "-in", s.Name+".crt", "-pubkey", "-noout"); pub != cert {
					t.Errorf("%s: openssl sees another public key in the certificate than in the key", s.Name)
				}
				if s.IsCA() {
					run("verify", "-attime", at, "-CAfile", s.Name+".crt", s.Name+".crt")
					continue
				}
				for purpose, on := range map[string]bool{"sslserver": s.Server, "sslclient": s.Client} {
					if on {
						run("verify", "-attime", at, "-CAfile", s.Signer+".crt", "-purpose", purpose, s.Name+".crt")
					}
				}
				text := run("x509", "-in", s.Name+".crt", "-noout", "-text")
				for _, want := range []string{"Version: 3", "X509v3 Key Usage: critical", "Digital Signature, Key Encipherment\n",
					"X509v3 Basic Constraints: critical", "CA:FALSE", "X509v3 Authority Key Identifier"} {
					if !strings.Contains(text, want) {
						t.Errorf("%s: openssl does not show %q", s.Name, want)
					}
				}
				if strings.Contains(text, "Subject Key Identifier") {
					t.Errorf("%s: a leaf has a subject key identifier", s.Name)
				}
			}
			if pub := run("pkey", "-in", "sa.key", "-pubout"); pub != run("pkey", "-pubin", "-in", "sa.pub", "-pubout") {
				t.Error("sa.pub is not the public half of sa.key")
			}
			run("verify", "-attime", at, "-CAfile", "ca.crt", "-verify_ip", "192.0.2.10", "apiserver.crt")
			run("verify", "-attime", at, "-CAfile", "ca.crt", "-verify_hostname", "kubernetes.default.svc.cluster.local", "apiserver.crt")
		})
	}
}

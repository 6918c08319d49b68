// SPDX-License-Identifier: Apache-2.0

package kubeconfig

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

func setup(t *testing.T) (*kubeadm.Config, *pki.Pair, *pki.Maker) {
	t.Helper()
	m := &pki.Maker{Algorithm: node.ECDSAP256, CAValidity: 87600 * time.Hour, Validity: 8760 * time.Hour, Now: kubeadmtest.Now}
	key, err := m.Key()
	if err != nil {
		t.Fatal(err)
	}
	ca, err := m.Authority(pki.Spec{Name: "ca", CommonName: "kubernetes"}, key)
	if err != nil {
		t.Fatal(err)
	}
	return kubeadmtest.Config(t), ca, m
}

func TestEmbedded(t *testing.T) {
	c, ca, m := setup(t)
	for name, want := range map[string]struct{ subject, server string }{
		Admin:             {"CN=kubernetes-admin,O=kubeadm:cluster-admins", "https://192.0.2.10:6443"},
		SuperAdmin:        {"CN=kubernetes-super-admin,O=system:masters", "https://192.0.2.10:6443"},
		ControllerManager: {"CN=system:kube-controller-manager", "https://192.0.2.11:6443"},
		Scheduler:         {"CN=system:kube-scheduler", "https://192.0.2.11:6443"},
		Kubelet:           {"CN=system:node:cp-1,O=system:nodes", "https://192.0.2.11:6443"},
	} {
		f, err := Embedded(c, name, ca, m)
		if err != nil {
			t.Fatal(err)
		}
		if f.Mode != 0o600 || f.Path != "/etc/kubernetes/"+name {
			t.Errorf("%s: %s", name, f)
		}
		cluster, auth, err := Current(f.Data)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := pki.ParseCert(auth.ClientCertificateData)
		if err != nil {
			t.Fatal(err)
		}
		if got := cert.Subject.String(); got != want.subject || cluster.Server != want.server {
			t.Errorf("%s: subject %s server %s", name, got, cluster.Server)
		}
		if err := Fits(c, name, f.Data, ca, m.Now); err != nil {
			t.Errorf("%s: does not fit itself: %v", name, err)
		}
		if !strings.Contains(string(f.Data), "current-context: "+cert.Subject.CommonName+"@kubernetes\n") {
			t.Errorf("%s: another context is current", name)
		}
	}
	if _, err := Embedded(c, "other.conf", ca, m); err == nil {
		t.Error("an unknown file was made")
	}
}

func TestEnsure(t *testing.T) {
	c, ca, m := setup(t)
	root := t.TempDir()
	write := func() []string {
		t.Helper()
		changed, err := Ensure(context.Background(), root, c, Names(true), ca, m)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(changed)
		return changed
	}
	if got := write(); len(got) != 5 {
		t.Errorf("first run wrote %v", got)
	}
	if got := write(); len(got) != 0 {
		t.Errorf("second run wrote %v", got)
	}
	c.EndpointHost = "192.0.2.99"
	if got := write(); !slices.Equal(got, []string{"/etc/kubernetes/admin.conf", "/etc/kubernetes/super-admin.conf"}) {
		t.Errorf("after the endpoint moved: %v", got)
	}
	rotating, err := KubeletRotating(c, c.LocalURL(), ca.CertPEM())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kubeadm.WriteFiles(root, rotating); err != nil {
		t.Fatal(err)
	}
	if got := write(); len(got) != 0 {
		t.Errorf("a rotating kubelet.conf was replaced: %v", got)
	}
	if err := os.WriteFile(filepath.Join(root, kubeadm.Dir, Scheduler), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := write(); !slices.Equal(got, []string{"/etc/kubernetes/scheduler.conf"}) {
		t.Errorf("after damage: %v", got)
	}
	_, other, _ := setup(t)
	ca = other
	if got := write(); len(got) != 5 {
		t.Errorf("after the authority changed: %v", got)
	}
}

// Renewing judges a certificate at this moment, and its end some time later.
func TestRenewing(t *testing.T) {
	const day = 24 * time.Hour
	for made, want := range map[time.Duration]int{-day: 0, -300 * day: 1, -400 * day: 1, time.Hour: 1, 100 * day: 1} {
		c, ca, m := setup(t)
		root := t.TempDir()
		write := func() int {
			t.Helper()
			changed, err := Ensure(context.Background(), root, c, []string{Scheduler}, ca, m)
			if err != nil {
				t.Fatal(err)
			}
			return len(changed)
		}
		m.Now = kubeadmtest.Now.Add(made)
		write()
		m.Now, m.RenewBefore = kubeadmtest.Now, 120*day
		if got, again := write(), write(); got != want || again != 0 {
			t.Errorf("made at %s: wrote %d, then %d, want %d and 0", made, got, again, want)
		}
	}
}

func TestBootstrapAndDiscovery(t *testing.T) {
	c, ca, _ := setup(t)
	f, err := Bootstrap(c, c.EndpointURL(), ca.CertPEM(), c.Tokens[0])
	if err != nil {
		t.Fatal(err)
	}
	_, auth, err := Current(f.Data)
	if err != nil || auth.Token != "abcdef.0123456789abcdef" || f.Mode != 0o600 {
		t.Errorf("bootstrap: %v %s", err, f)
	}
	if s := f.String(); strings.Contains(s, "0123456789abcdef") {
		t.Errorf("the file's description shows the token: %s", s)
	}
	d, err := Discovery(c, ca.CertPEM())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"contexts: null\n", "users: null\n", "name: \"\"\n", "server: https://192.0.2.10:6443\n", "current-context: \"\"\n"} {
		if !bytes.Contains(d, []byte(want)) {
			t.Errorf("discovery lacks %q:\n%s", want, d)
		}
	}
}

func FuzzCurrent(f *testing.F) {
	f.Add([]byte("current-context: a\ncontexts: [{name: a, context: {cluster: b, user: c}}]\nclusters: [{name: b}]\nusers: [{name: c}]"))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, a, err := Current(b)
		if (err == nil) != (c != nil && a != nil) {
			t.Fatalf("cluster %v, user %v, error %v", c, a, err)
		}
	})
}

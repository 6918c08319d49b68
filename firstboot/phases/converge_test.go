// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"crypto"
	"crypto/rand"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/check"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/pki"
	"github.com/imgbuild/imgbuild/firstboot/status"
)

// listener keeps what is posted to a callback URL.
type listener struct {
	mu   sync.Mutex
	text strings.Builder
	url  string
}

func listen(t *testing.T) *listener {
	l := &listener{}
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.text.Write(body)
	}))
	t.Cleanup(srv.Close)
	l.url = srv.URL
	return l
}

func (l *listener) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// life is how long leaves last, and age how old they are made, so that they are due soon.
const life, age = 2 * time.Hour, time.Hour

// pairOf is the documents of a control plane and of a worker that joins it.
func pairOf(address netip.Addr, callback string) (cp, worker *node.Node) {
	cp = &node.Node{APIVersion: node.APIVersion, Kind: node.Kind, Role: node.ControlPlane,
		Node:            node.Machine{Name: m1, Address: address.String()},
		PKI:             node.PKI{Validity: node.Duration(life), CAValidity: node.Duration(12 * life), CertificateKey: node.Secret(strings.Repeat("89abcdef", 8))},
		BootstrapTokens: []node.BootstrapToken{{Token: "abcdef.0123456789abcdef"}},
		Join:            node.Join{Renew: true},
		Callback:        node.Callback{URL: callback, Token: "a-callback-token-of-this-test"},
	}
	worker = &node.Node{APIVersion: node.APIVersion, Kind: node.Kind, Role: node.Worker,
		Node:            node.Machine{Name: "w-1", Address: "192.0.2.41"},
		Cluster:         node.Cluster{Endpoint: netip.AddrPortFrom(address, 6443).String()},
		BootstrapTokens: cp.BootstrapTokens, Callback: cp.Callback,
	}
	worker.Join.CAVerification = node.VerifyToken
	for _, n := range []*node.Node{cp, worker} {
		node.SetDefaults(n)
	}
	return cp, worker
}

// TestKilledAtEveryTransition compares a control plane and a worker whose first boot was killed
// before and after every phase, and now and then the whole machine with it, with two that were
// left alone: they have the same files and the same cluster.
func TestKilledAtEveryTransition(t *testing.T) {
	t.Parallel()
	address, err := ownAddress()
	if err != nil {
		t.Skip(err)
	}
	heard := listen(t)
	cpDocument, workerDocument := pairOf(address, heard.url)
	admin, err := pki.GenerateKey(node.ECDSAP256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := pki.PublicPEM(admin)
	if err != nil {
		t.Fatal(err)
	}
	cpDocument.PKI.AdminKey = string(public)
	boot := func(how func(*computer)) (cp, worker *computer) {
		cp = newComputer(t, cpDocument, address, "")
		cp.Earlier = age
		how(cp)
		workerDocument.Join.CACertHashes = []string{pin(t, cp.root)}
		worker = newComputer(t, workerDocument, netip.MustParseAddr(workerDocument.Node.Address), "127.2.9.2")
		how(worker)
		return cp, worker
	}
	cp, worker := boot(func(c *computer) { c.bootUndisturbed(t) })
	server := cp.resolve(t).Config.LocalURL()
	files := map[*node.Node]map[string]string{cpDocument: snapshot(t, cp.root), workerDocument: snapshot(t, worker.root)}
	cluster := settled(t, clientOf(t, cp.root, server))
	worker.off()
	cp.off()

	cp, worker = boot(func(c *computer) { everyTransition(t, c.state.Node.Role, c.bootKilled(t)) })
	for _, c := range []*computer{cp, worker} {
		if diff := differences(files[c.state.Node], snapshot(t, c.root)); len(diff) > 0 {
			t.Errorf("%s: %s", c.node, strings.Join(diff, "\n"))
		}
		if units := c.asked(t); len(units) > 0 {
			t.Errorf("%s: first boot started %v", c.node, units)
		}
	}
	sameObjects(t, clientOf(t, cp.root, server), cluster)
	s := cp.resolve(t)
	compareObjects(t, t.Context(), s)
	c, err := s.client()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range check.Run(t.Context(), &check.Env{Root: s.Root, Config: s.Config, First: true, API: c}) {
		if r.Status == check.Fail && r.ID != "D07" { // these leaves last two hours
			t.Errorf("check %s %s: %v", r.ID, r.Title, r.Problems)
		}
	}
	adminGetsIn(t, s, admin)
	t.Run("renewal", func(t *testing.T) { renewalIsNotNoticed(t, cp) })
	t.Run("reset", func(t *testing.T) { resetAndJoinAgain(t, worker, files[workerDocument]) })
	t.Run("secrets", func(t *testing.T) {
		for _, c := range []*computer{cp, worker} {
			secretsStayInside(t, c, heard.String())
		}
	})
}

// pin is what a worker knows a cluster by.
func pin(t *testing.T, root string) string {
	t.Helper()
	text, err := os.ReadFile(root + kubeadm.PKIDir + "/ca.crt")
	if err != nil {
		t.Fatal(err)
	}
	ca, err := pki.ParseCert(text)
	if err != nil {
		t.Fatal(err)
	}
	return pki.Pin(ca)
}

// adminGetsIn administers the cluster with a key that never was in it.
func adminGetsIn(t *testing.T, s *State, key crypto.Signer) {
	t.Helper()
	ca, err := os.ReadFile(s.path(kubeadm.PKIDir + "/ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := &rest.Config{Host: s.Config.LocalURL(), TLSClientConfig: rest.TLSClientConfig{CAData: ca}}
	get := func() (*corev1.ConfigMap, error) {
		c, err := kubernetes.NewForConfig(cfg)
		if err != nil {
			return nil, err
		}
		if cfg.CertData != nil { // what administrators alone may
			if _, err := c.CoreV1().Secrets("kube-system").List(t.Context(), metav1.ListOptions{}); err != nil {
				return nil, err
			}
		}
		return c.CoreV1().ConfigMaps("kube-public").Get(t.Context(), addons.AdminConfigMap, metav1.GetOptions{})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cm, err := get() // as anybody, once the server knows what anybody may
	for err != nil && ctx.Err() == nil {
		time.Sleep(200 * time.Millisecond)
		cm, err = get()
	}
	if err != nil {
		t.Fatal(err)
	}
	cfg.CertData = []byte(cm.Data[addons.AdminCertificate])
	if cfg.KeyData, err = pki.KeyPEM(key); err != nil {
		t.Fatal(err)
	}
	if _, err := get(); err != nil {
		t.Error(err)
	}
}

// resetAndJoinAgain: after a reset a worker has nothing but what was delivered, and first boot
// brings it where it was.
func resetAndJoinAgain(t *testing.T, c *computer, want map[string]string) {
	c.off()
	c.resolve(t)
	if left, err := Leave(t.Context(), c.state); err != nil {
		t.Error(left, err)
	}
	mountList(t, c.root)
	if err := Forget(c.state); err != nil {
		t.Fatal(err)
	}
	left := snapshot(t, c.root)
	if len(left) != 1 || left[node.Path] == "" {
		t.Errorf("after a reset there is %v", slices.Sorted(maps.Keys(left)))
	}
	c.Killed = ""
	c.bootUndisturbed(t)
	if diff := differences(want, snapshot(t, c.root)); len(diff) > 0 {
		t.Error(strings.Join(diff, "\n"))
	}
}

// secretsStayInside looks for every secret that a computer was given or made in all that its
// runs showed, and in files that others may read.
func secretsStayInside(t *testing.T, c *computer, posted string) {
	secrets := slices.DeleteFunc(c.state.Node.Secrets(), func(s string) bool { return s == "" })
	mayRead := map[string]string{}
	err := filepath.WalkDir(c.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		// A private key repeats its public half, in lines that may be the same.
		if st, serr := d.Info(); serr == nil && st.Mode().Perm()&0o077 != 0 && filepath.Ext(path) != ".pub" {
			mayRead[strings.TrimPrefix(path, c.root)] = string(text)
		}
		secrets = append(secrets, keyLines(string(text))...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(secrets) < 4 {
		t.Fatalf("%s has only %d secrets", c.node, len(secrets))
	}
	logs, err := filepath.Glob(filepath.Join(filepath.Dir(c.log), "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{"callback": posted}
	for _, f := range append(logs, c.root+status.Path, c.root+phase.JournalPath) {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		shown[filepath.Base(f)] = string(text)
	}
	maps.Copy(shown, mayRead)
	if !strings.Contains(posted, c.node) || !strings.Contains(shown[c.node+"-firstboot.log"], "hand-over ok") {
		t.Error("the runs were not recorded")
	}
	for place, text := range shown {
		if slices.ContainsFunc(secrets, func(s string) bool { return strings.Contains(text, s) }) {
			t.Errorf("%s: %s shows a secret", c.node, place)
		}
	}
	t.Logf("%s: %d secrets, %d places", c.node, len(secrets), len(shown))
}

// keyLines are the lines of private keys in a text, as such and as kubeconfigs have them.
func keyLines(text string) (out []string) {
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "-----"):
			inside = strings.HasPrefix(line, "-----BEGIN") && strings.Contains(line, "PRIVATE KEY")
		case inside && len(line) > 16:
			out = append(out, line)
		case strings.HasPrefix(line, "client-key-data: "):
			out = append(out, strings.TrimPrefix(line, "client-key-data: "))
		}
	}
	return out
}

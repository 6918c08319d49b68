// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/manifests"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// fakeAPI serves objects by type, namespace and name.
type fakeAPI map[string]runtime.Object

func key(o runtime.Object) string {
	m := o.(addons.Meta)
	return fmt.Sprintf("%T %s/%s", o, m.GetNamespace(), m.GetName())
}

func (f fakeAPI) Get(_ context.Context, o runtime.Object) error {
	got, ok := f[key(o)]
	if !ok {
		return fmt.Errorf("%s not found", key(o))
	}
	reflect.ValueOf(o).Elem().Set(reflect.ValueOf(got.DeepCopyObject()).Elem())
	return nil
}

// find returns the served object of a type and name for a test to damage.
func find[T runtime.Object](f fakeAPI, name string) T {
	for _, o := range f {
		if t, ok := o.(T); ok && o.(addons.Meta).GetName() == name {
			return t
		}
	}
	panic("no object " + name)
}

// reference builds a complete node below a temporary directory with the generators.
func reference(t *testing.T, edits ...func(*node.Node)) (*Env, fakeAPI) {
	t.Helper()
	return referenceAt(t, t.TempDir(), edits...)
}

// referenceAt takes the authorities that are there.
func referenceAt(t *testing.T, root string, edits ...func(*node.Node)) (*Env, fakeAPI) {
	t.Helper()
	edits = append([]func(*node.Node){func(n *node.Node) { n.PKI.Algorithm = node.ECDSAP256 }}, edits...)
	c := kubeadmtest.Config(t, edits...)
	m := &pki.Maker{Algorithm: c.Algorithm, CAValidity: c.CAValidity, Validity: c.Validity, Now: kubeadmtest.Now}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	r, err := pki.Ensure(context.Background(), root, c, m)
	must(err)
	_, err = kubeconfig.Ensure(context.Background(), root, c, kubeconfig.Names(true), r.CA, m)
	must(err)
	pods, err := manifests.StaticPodFiles(c)
	must(err)
	files, err := manifests.KubeletFiles(c, manifests.ClusterKubelet(c))
	must(err)
	pair, err := m.Leaf(pki.Users(c.NodeName)[kubeconfig.Kubelet], r.CA)
	must(err)
	conf, err := kubeconfig.KubeletRotating(c, c.LocalURL(), r.CA.CertPEM())
	must(err)
	pem := kubeadm.File{Path: kubeadm.KubeletDir + "/pki/kubelet-client-1.pem", Mode: 0o600, Data: pair.CertPEM()}
	_, err = kubeadm.WriteFiles(root, append(append(pods, files...), conf, pem)...)
	must(err)
	must(os.Symlink(pem.Path, filepath.Join(root, kubeadm.KubeletPEM)))
	must(kubeadm.MakeDir(root, kubeadm.EtcdDataDir))
	objs, err := addons.Objects(c, addons.Inputs{CAPEM: r.CA.CertPEM()})
	must(err)
	api := fakeAPI{}
	for _, o := range objs {
		api[key(o.Obj)] = o.Obj
	}
	n := &corev1.Node{}
	n.Name, n.Labels = c.NodeName, manifests.AdminLabels(c)
	for _, x := range manifests.NodeTaints(c) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: x.Key, Value: x.Value, Effect: corev1.TaintEffect(x.Effect)})
	}
	api[key(n)] = n
	return &Env{Root: root, Config: c, First: true, API: api}, api
}

func TestReferencePasses(t *testing.T) {
	for name, edits := range map[string][]func(*node.Node){
		"as images": nil, "from the host": {kubeadmtest.Verity},
		"ipv6": {func(n *node.Node) {
			n.Node.Address, n.Cluster.Endpoint = "2001:db8::11", "[2001:db8::10]:6443"
			n.Cluster.Networking = node.Networking{PodSubnet: "fd00:10:244::/56", ServiceSubnet: "fd00:10:96::/112", DNSDomain: "cluster.local"}
		}},
		"settings": {func(n *node.Node) {
			n.Etcd.HeartbeatInterval, n.Etcd.ElectionTimeout, n.Etcd.CPURequest = 500e6, 5000e6, "1000m"
			n.APIServer.ExtraArgs = map[string]string{"v": "2", "authorization-mode": "Node,RBAC,Webhook"}
			n.ControllerManager.ExtraArgs = map[string]string{"leader-elect-lease-duration": "1m"}
			n.Scheduler.ExtraArgs = map[string]string{"v": "4"}
			n.APIServer.CertSANs = []string{"api.example.net"}
			n.Cluster.ProxyMode = node.ProxyNFTables
		}},
	} {
		t.Run(name, func(t *testing.T) {
			e, _ := reference(t, edits...)
			for _, r := range Run(context.Background(), e) {
				if r.Status != Pass {
					t.Errorf("%s %s: %s %v", r.ID, r.Title, r.Status, r.Problems)
				}
			}
		})
	}
}

// An operator's own authorities are not like kubeadm's, and certificates that were signed elsewhere
// have what was asked for, and may have more.
func TestOwnAuthorities(t *testing.T) {
	own := func(t *testing.T) (root string, cas map[string]*pki.Pair) {
		root, cas = t.TempDir(), map[string]*pki.Pair{}
		for i, name := range authorities {
			key, err := pki.GenerateKey(node.ECDSAP256, nil)
			if err != nil {
				t.Fatal(err)
			}
			tmpl := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: "authority " + name, Organization: []string{"Example"}},
				NotBefore: kubeadmtest.Now.Add(-time.Hour), NotAfter: kubeadmtest.Now.AddDate(30, 0, 0), IsCA: true, BasicConstraintsValid: true,
				KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
			cas[name] = &pki.Pair{Key: key, Cert: signedBy(t, tmpl, tmpl, key.Public(), key)}
			put(t, root, kubeadm.PKIDir+"/"+name+".crt", cas[name].CertPEM(), 0o644)
			text, err := pki.KeyPEM(key)
			if err != nil {
				t.Fatal(err)
			}
			put(t, root, kubeadm.PKIDir+"/"+name+".key", text, 0o600)
		}
		return root, cas
	}
	failed := func(e *Env) (out string) {
		for _, r := range Run(context.Background(), e) {
			if r.Status != Pass {
				out += r.ID + " " + strings.Join(r.Problems, ", ") + "\n"
			}
		}
		return out
	}
	root, _ := own(t)
	e, _ := referenceAt(t, root)
	e.Config.PKIMode = node.PKIShared
	if got := failed(e); got != "" {
		t.Errorf("own authorities that are shared: %s", got)
	}
	e.Config.PKIMode = node.PKIGenerate
	if got := failed(e); !strings.HasPrefix(got, "D03 ") || !strings.Contains(got, "want CN kubernetes O []") {
		t.Errorf("authorities of another form than those that were made here: %q", got)
	}

	root, cas := own(t)
	e, _ = referenceAt(t, root)
	e.Config.PKIMode = node.PKIExternal
	server := filepath.Join(kubeadm.PKIDir, "etcd/server.crt")
	text, err := os.ReadFile(e.path(server))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pki.ParseCert(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		change     func(*x509.Certificate)
	}{
		{"more than was asked for", "", func(c *x509.Certificate) {
			c.DNSNames = append(c.DNSNames, "more.example.net")
			c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageCodeSigning)
			c.KeyUsage, c.NotAfter = x509.KeyUsageDigitalSignature, kubeadmtest.Now.AddDate(0, 1, 0)
		}},
		{"a name less", "D05 etcd/server alternative names is ", func(c *x509.Certificate) { c.DNSNames = nil }},
		{"a usage less", "D05 etcd/server extended key usage is ", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }},
		{"no signatures", "D06 etcd/server may sign handshakes is false", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }},
	} {
		tmpl := *cert
		tmpl.SignatureAlgorithm = x509.UnknownSignatureAlgorithm
		c.change(&tmpl)
		ca := cas["etcd/ca"]
		pair := pki.Pair{Cert: signedBy(t, &tmpl, ca.Cert, cert.PublicKey, ca.Key)}
		put(t, root, server, pair.CertPEM(), 0o644)
		if got := failed(e); !strings.HasPrefix(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%s: %q, not %q", c.name, got, c.want)
		}
	}
}

func signedBy(t *testing.T, tmpl, ca *x509.Certificate, public, key any) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(nil, tmpl, ca, public, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func put(t *testing.T, root, path string, text []byte, mode os.FileMode) {
	t.Helper()
	at := filepath.Join(root, path)
	err := os.MkdirAll(filepath.Dir(at), 0o755)
	if err == nil {
		err = os.WriteFile(at, text, mode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Every check must be able to fail: each line damages one thing, and exactly the named checks
// must notice.
func TestEveryCheckNotices(t *testing.T) {
	edit := func(path, old, new string) func(*testing.T, *Env, fakeAPI) {
		return func(t *testing.T, e *Env, _ fakeAPI) {
			p := e.path(path)
			b, err := os.ReadFile(p)
			if err != nil || !strings.Contains(string(b), old) {
				t.Fatalf("%s does not contain %q (%v)", path, old, err)
			}
			if err := os.WriteFile(p, []byte(strings.ReplaceAll(string(b), old, new)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	copyFile := func(from, to string) func(*testing.T, *Env, fakeAPI) {
		return func(t *testing.T, e *Env, _ fakeAPI) {
			b, err := os.ReadFile(e.path(from))
			if err == nil {
				err = os.WriteFile(e.path(to), b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	const pkiDir, man, kub = kubeadm.PKIDir + "/", kubeadm.ManifestsDir + "/", kubeadm.KubeletDir + "/"
	tests := []struct {
		name   string
		damage func(*testing.T, *Env, fakeAPI)
		want   string
	}{
		{"stray file in pki", copyFile(pkiDir+"ca.crt", pkiDir+"old.crt"), "D01"},
		{"a key others can read", func(t *testing.T, e *Env, _ fakeAPI) { chmod(t, e, pkiDir+"sa.key", 0o644) }, "D02"},
		{"an authority that is none", func(t *testing.T, e *Env, _ fakeAPI) {
			copyFile(pkiDir+"front-proxy-client.crt", pkiDir+"front-proxy-ca.crt")(t, e, nil)
			chmod(t, e, pkiDir+"front-proxy-ca.crt", 0o644)
		}, "D03 D06 D07"},
		{"endpoint no certificate covers", func(_ *testing.T, e *Env, _ fakeAPI) { e.Config.EndpointHost = "api.example.net" }, "D04 D09 D17 D21 D24"},
		{"peer certificate of another name", func(t *testing.T, e *Env, _ fakeAPI) {
			copyFile(pkiDir+"etcd/healthcheck-client.crt", pkiDir+"etcd/peer.crt")(t, e, nil)
			chmod(t, e, pkiDir+"etcd/peer.crt", 0o644)
		}, "D05"},
		{"another client's certificate", func(t *testing.T, e *Env, _ fakeAPI) {
			copyFile(pkiDir+"apiserver-etcd-client.crt", pkiDir+"etcd/healthcheck-client.crt")(t, e, nil)
			chmod(t, e, pkiDir+"etcd/healthcheck-client.crt", 0o644)
		}, "D06"},
		{"another validity", func(_ *testing.T, e *Env, _ fakeAPI) { e.Config.Validity /= 2 }, "D07 D17"},
		{"admin is super-admin", copyFile("/etc/kubernetes/super-admin.conf", "/etc/kubernetes/admin.conf"), "D08"},
		{"super-admin.conf on a joined node", func(_ *testing.T, e *Env, _ fakeAPI) { e.First = false }, "D08"},
		{"scheduler uses the endpoint", edit("/etc/kubernetes/scheduler.conf", "192.0.2.11", "192.0.2.10"), "D09"},
		{"bootstrap kubeconfig left", copyFile("/etc/kubernetes/admin.conf", "/etc/kubernetes/bootstrap-kubelet.conf"), "D10"},
		{"stray manifest", copyFile(man+"etcd.yaml", man+"more.yaml"), "D11"},
		{"changed flag", edit(man+"kube-scheduler.yaml", "leader-elect=true", "leader-elect=false"), "D11"},
		{"extra flag", edit(man+"kube-apiserver.yaml", "    - --allow-privileged=true", "    - --allow-privileged=true\n    - --anonymous-auth=true"), "D11"},
		{"foreign etcd member", edit(man+"etcd.yaml", "initial-cluster=cp-1=", "initial-cluster=cp-9="), "D12"},
		{"annotation", edit(man+"kube-apiserver.yaml", "endpoint: 192.0.2.11", "endpoint: 192.0.2.12"), "D12"},
		{"probe period", edit(man+"etcd.yaml", "periodSeconds: 1\n", "periodSeconds: 7\n"), "D13"},
		{"image", edit(man+"etcd.yaml", "image: registry.k8s.io", "image: example.net"), "D14"},
		{"cpu request", edit(man+"kube-apiserver.yaml", "cpu: 250m", "cpu: 300m"), "D14"},
		{"anonymous kubelet", func(t *testing.T, e *Env, _ fakeAPI) {
			edit(kub+"config.yaml", "anonymous:\n    enabled: false", "anonymous:\n    enabled: true")(t, e, nil)
			chmod(t, e, kub+"config.yaml", 0o644)
		}, "D15 D18"},
		{"flags file", func(t *testing.T, e *Env, _ fakeAPI) {
			edit(kub+"kubeadm-flags.env", `""`, `"--register-with-taints=a"`)(t, e, nil)
			chmod(t, e, kub+"kubeadm-flags.env", 0o644)
		}, "D16"},
		{"another version", func(_ *testing.T, _ *Env, f fakeAPI) {
			cm := find[*corev1.ConfigMap](f, "kubeadm-config")
			cm.Data["ClusterConfiguration"] = strings.ReplaceAll(cm.Data["ClusterConfiguration"], "v1.36.3", "v1.35.0")
		}, "D17"},
		{"edited proxy configuration", func(_ *testing.T, _ *Env, f fakeAPI) {
			find[*corev1.ConfigMap](f, "kube-proxy").Data["config.conf"] += "\n"
		}, "D18"},
		{"role reads more", func(_ *testing.T, _ *Env, f fakeAPI) {
			find[*rbacv1.Role](f, "kubeadm:kubelet-config").Rules[0].ResourceNames = nil
		}, "D19"},
		{"binding to another group", func(_ *testing.T, _ *Env, f fakeAPI) {
			find[*rbacv1.ClusterRoleBinding](f, "kubeadm:get-nodes").Subjects[0].Name = "everyone"
		}, "D20"},
		{"a user in cluster-info", func(_ *testing.T, _ *Env, f fakeAPI) {
			cm := find[*corev1.ConfigMap](f, "cluster-info")
			cm.Data["kubeconfig"] = strings.ReplaceAll(cm.Data["kubeconfig"], "users: null", "users: [{name: a}]")
		}, "D21"},
		{"token of another secret", func(_ *testing.T, _ *Env, f fakeAPI) {
			find[*corev1.Secret](f, "bootstrap-token-abcdef").Data["token-secret"] = []byte("feedfeedfeedfeed")
		}, "D22"},
		{"no taint", func(_ *testing.T, _ *Env, f fakeAPI) { find[*corev1.Node](f, "cp-1").Spec.Taints = nil }, "D23"},
		{"proxy without privileges", func(_ *testing.T, _ *Env, f fakeAPI) {
			find[*appsv1.DaemonSet](f, "kube-proxy").Spec.Template.Spec.Containers[0].SecurityContext = nil
		}, "D24"},
		{"dns address", func(_ *testing.T, _ *Env, f fakeAPI) {
			find[*corev1.Service](f, "kube-dns").Spec.ClusterIP = "10.96.0.11"
		}, "D25"},
	}
	covered := map[string]bool{}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			e, api := reference(t)
			tc.damage(t, e, api)
			var got []string
			for _, r := range Run(context.Background(), e) {
				if r.Status == Fail {
					got = append(got, r.ID)
				}
				if text := strings.Join(r.Problems, "\n"); strings.Contains(text, "0123456789abcdef") || strings.Contains(text, "feedfeed") {
					t.Errorf("%s shows a token: %s", r.ID, text)
				}
			}
			if g := strings.Join(got, " "); g != tc.want {
				t.Errorf("noticed by %q, want %q", g, tc.want)
			}
		})
		for id := range strings.FieldsSeq(tc.want) {
			covered[id] = true
		}
	}
	for _, c := range All() {
		if !covered[c.ID] {
			t.Errorf("no test shows that %s can fail", c.ID)
		}
	}
}

func chmod(t *testing.T, e *Env, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(e.path(path), mode); err != nil {
		t.Fatal(err)
	}
}

func TestSkips(t *testing.T) {
	e, _ := reference(t)
	e.API = nil
	for _, r := range Run(context.Background(), e, "D16", "D17") {
		if want := map[string]Status{"D16": Pass, "D17": Skip}[r.ID]; r.Status != want {
			t.Errorf("%s: %s, want %s", r.ID, r.Status, want)
		}
	}
	e.Config.Role = node.Worker
	if r := Run(context.Background(), e, "D11"); len(r) != 1 || r[0].Status != Skip {
		t.Errorf("a worker was asked for static pods: %v", r)
	}
}

// With images nothing is exempt; the verity pods must then be refused.
func TestExemptionsAreForVerityOnly(t *testing.T) {
	e, _ := reference(t, kubeadmtest.Verity)
	e.Config.Delivery.Mode = node.DeliveryOCI
	var failed []string
	for _, r := range Run(context.Background(), e, "D14", "D24", "D25") {
		if r.Status == Fail {
			failed = append(failed, r.ID)
		}
	}
	if !slices.Equal(failed, []string{"D14", "D24", "D25"}) {
		t.Errorf("failed: %v", failed)
	}
}

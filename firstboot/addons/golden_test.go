// SPDX-License-Identifier: Apache-2.0

package addons

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

func inputs() Inputs {
	sealed := map[string][]byte{}
	for _, f := range []string{"ca.crt", "ca.key", "etcd-ca.crt", "etcd-ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.key", "sa.pub"} {
		sealed[f] = nil
	}
	return Inputs{
		CAPEM: []byte("-----BEGIN CERTIFICATE-----\nnot a real one\n-----END CERTIFICATE-----\n"),
		Certs: &CertUpload{Sealed: sealed, Proxy: kubeadm.Token{ID: "0v1a9w", Secret: "fpqjdw58ntgdcdfh",
			Description: ProxyDescription, Expiration: kubeadmtest.Now.Add(2*time.Hour + 2*time.Second)}},
	}
}

func objects(t *testing.T, edits ...func(*node.Node)) []Object {
	t.Helper()
	all, err := Objects(kubeadmtest.Config(t, edits...), inputs())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func noFlannel(n *node.Node) { n.Network.Provider = node.NetworkNone }

func TestGolden(t *testing.T) {
	for name, edits := range map[string][]func(*node.Node){
		"oci":    {noFlannel},
		"verity": {kubeadmtest.Verity, func(n *node.Node) { n.Cluster.ProxyMode = node.ProxyNFTables }},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			for _, o := range objects(t, edits...) {
				text, err := yaml.Marshal(o.Obj)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&out, "--- # %s: %s\n%s", o.Phase, Key(o.Obj), text)
			}
			kubeadmtest.Golden(t, name+".yaml", out.Bytes())
		})
	}
}

// The hashes are those that kubeadm v1.36.3 computed for the reference cluster: equal hashes
// mean equal bytes.
func TestConfigHashIsKubeadms(t *testing.T) {
	want := map[string]string{
		"ConfigMap kube-system/kubelet-config": "sha256:26488e9fc7c5cb5fdda9996cda2e6651a9af5febce07ea02de11bd3ef3f49e9c",
		"ConfigMap kube-system/kube-proxy":     "sha256:c28d10aeab03a306f449905602c4af9367e209620dfaab8dfedeb61deaa56923",
	}
	for _, o := range objects(t) {
		if h, ok := want[Key(o.Obj)]; ok {
			if got := o.Obj.(*corev1.ConfigMap).Annotations[kubeadm.ConfigHash]; got != h {
				t.Errorf("%s: hash %s, want %s", Key(o.Obj), got, h)
			}
			delete(want, Key(o.Obj))
		}
	}
	for k := range want {
		t.Errorf("%s is not written", k)
	}
}

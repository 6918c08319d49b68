// SPDX-License-Identifier: Apache-2.0

package addons

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/cluster-bootstrap/token/jws"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

func TestOrderAndPolicy(t *testing.T) {
	seen, barrier := map[string]bool{}, false
	for _, o := range objects(t, kubeadmtest.Verity) {
		k := Key(o.Obj)
		if seen[k] {
			t.Errorf("%s is listed twice", k)
		}
		for _, dep := range o.After {
			if !seen[dep] {
				t.Errorf("%s comes before %s, which it needs", k, dep)
			}
		}
		if barrier && !o.Barrier {
			t.Errorf("%s comes after what releases joining machines", k)
		}
		barrier = barrier || o.Barrier
		if o.Policy != Replace && o.Policy != Keep {
			t.Errorf("%s has no policy", k)
		}
		if ns := o.Obj.(Meta).GetNamespace(); ns != "" && !slices.Contains([]string{"kube-system", "kube-public", flannelNamespace}, ns) {
			t.Errorf("%s is in a strange namespace", k)
		}
		seen[k] = true
	}
	if !seen["ConfigMap kube-public/cluster-info"] || !barrier {
		t.Error("cluster-info is missing")
	}
}

func TestPhases(t *testing.T) {
	all := objects(t)
	total := 0
	for p, want := range map[Phase]int{Admins: 1, UploadConfig: 6, UploadCerts: 4, BootstrapToken: 10, AddonDNS: 6, AddonProxy: 6, AddonNetwork: 6} {
		if got := len(In(all, p)); got != want {
			t.Errorf("%s writes %d objects, want %d", p, got, want)
		}
		total += want
	}
	if len(all) != total {
		t.Errorf("%d objects, %d of them in known phases", len(all), total)
	}
	i := inputs()
	i.Certs = nil
	some, err := Objects(kubeadmtest.Config(t, noFlannel), i)
	if err != nil || len(In(some, UploadCerts, AddonNetwork)) != 0 {
		t.Errorf("objects that were not asked for: %v", err)
	}
}

// Programs from the host need the host's /usr and a node that has it; nothing is pulled.
func TestVerityPods(t *testing.T) {
	n := 0
	for _, o := range objects(t, kubeadmtest.Verity) {
		var spec corev1.PodSpec
		switch w := o.Obj.(type) {
		case *appsv1.DaemonSet:
			spec = w.Spec.Template.Spec
		case *appsv1.Deployment:
			spec = w.Spec.Template.Spec
		default:
			continue
		}
		n++
		c := spec.Containers[0]
		if !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == "/usr" && m.ReadOnly }) {
			t.Errorf("%s lacks the host's /usr", Key(o.Obj))
		}
		if c.ImagePullPolicy != corev1.PullNever || len(c.Command) == 0 || !strings.HasPrefix(c.Command[0], "/usr/") {
			t.Errorf("%s: policy %s, command %v", Key(o.Obj), c.ImagePullPolicy, c.Command)
		}
		if spec.NodeSelector[kubeadm.DeliveryLabel] != "verity" {
			t.Errorf("%s selects nodes by %v", Key(o.Obj), spec.NodeSelector)
		}
	}
	if n != 3 {
		t.Errorf("%d workloads, want 3", n)
	}
}

func TestDeliveryPerComponent(t *testing.T) {
	for _, o := range objects(t, kubeadmtest.Verity, func(n *node.Node) {
		n.Delivery.Components = map[string]node.DeliveryMode{kubeadm.CoreDNS: node.DeliveryOCI}
	}) {
		if d, ok := o.Obj.(*appsv1.Deployment); ok {
			if c := d.Spec.Template.Spec.Containers[0]; c.Image != "registry.k8s.io/coredns/coredns:v1.14.2" || c.Command != nil {
				t.Errorf("coredns: %s %v", c.Image, c.Command)
			}
		}
	}
}

func TestNetConf(t *testing.T) {
	v4 := NewNetConf(kubeadmtest.Config(t))
	if !v4.EnableIPv4 || v4.Network != "10.244.0.0/16" || v4.EnableNFTables {
		t.Errorf("%+v", v4)
	}
	v6 := NewNetConf(kubeadmtest.Config(t, func(n *node.Node) {
		n.Cluster.Networking.PodSubnet, n.Cluster.ProxyMode, n.Network.MTU = "fd00:10::/56", node.ProxyNFTables, 1400
	}))
	if v6.EnableIPv4 || !v6.EnableIPv6 || v6.IPv6Network != "fd00:10::/56" || !v6.EnableNFTables || v6.Backend.MTU != 1400 {
		t.Errorf("%+v", v6)
	}
}

// A machine that has the token believes cluster-info before any controller has run, and no other
// token's secret.
func TestClusterInfoIsSigned(t *testing.T) {
	c := kubeadmtest.Config(t)
	objs, err := bootstrapToken(c, Inputs{CAPEM: []byte("authority")})
	if err != nil {
		t.Fatal(err)
	}
	data := objs[len(objs)-1].Obj.(*corev1.ConfigMap).Data
	for _, token := range c.Tokens {
		signature := data["jws-kubeconfig-"+token.ID]
		if !jws.DetachedTokenIsValid(signature, data["kubeconfig"], token.ID, token.Secret.Reveal()) ||
			jws.DetachedTokenIsValid(signature, data["kubeconfig"], token.ID, "0000000000000000") {
			t.Errorf("token %s: %q", token.ID, signature)
		}
	}
	if len(c.Tokens) == 0 || len(data) != 1+len(c.Tokens) {
		t.Errorf("%d keys for %d tokens", len(data), len(c.Tokens))
	}
}

// On every node flannel uses the node's own address, or the interface that the document names.
func TestFlannelUsesTheNodeAddress(t *testing.T) {
	for name, want := range map[string]string{"": "--iface=$(NODE_IP)", "eth1": "--iface=eth1"} {
		all := daemonSets(t, kubeadmtest.Verity, foreign, func(n *node.Node) { n.Network.Interface = name })
		for _, d := range []string{"kube-flannel-ds", "kube-flannel-ds-foreign"} {
			c := all[d].Spec.Template.Spec.Containers[0]
			if !slices.Contains(c.Command, want) {
				t.Errorf("%s: %v, want %s", d, c.Command, want)
			}
			if i := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "NODE_IP" }); i < 0 || c.Env[i].ValueFrom.FieldRef.FieldPath != "status.hostIP" {
				t.Errorf("%s: %v", d, c.Env)
			}
		}
	}
}

func TestSealAndOpen(t *testing.T) {
	key := node.Secret(strings.Repeat("0f", 32))
	files := map[string][]byte{"etcd/ca.key": []byte("pem text"), "sa.pub": {}}
	box, err := Seal(files, key, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if len(box["etcd-ca.key"]) != 12+len("pem text")+16 {
		t.Errorf("etcd-ca.key has %d bytes", len(box["etcd-ca.key"]))
	}
	for name, want := range files {
		got, err := Open(box, name, key)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	box["etcd-ca.key"][20] ^= 1
	for name, k := range map[string]node.Secret{"etcd/ca.key": key, "sa.pub": node.Secret(strings.Repeat("1f", 32)), "ca.key": key} {
		if _, err := Open(box, name, k); err == nil || strings.Contains(err.Error(), k.Reveal()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, k := range []node.Secret{"", "00", node.Secret(strings.Repeat("zz", 32))} {
		if _, err := Seal(files, k, rand.Reader); err == nil || k != "" && strings.Contains(err.Error(), k.Reveal()) {
			t.Errorf("key of %d characters: %v", len(k), err)
		}
	}
}

func TestSetOwner(t *testing.T) {
	for _, o := range In(objects(t), UploadCerts) {
		if err := SetOwner(o.Obj, "u-1"); (err == nil) != (len(o.After) == 1) {
			t.Errorf("%s: %v", Key(o.Obj), err)
		}
	}
}

func TestNoSecretInText(t *testing.T) {
	c := kubeadmtest.Config(t)
	if s := fmt.Sprintf("%v %+v %#v", c.Tokens, c, c.Tokens); strings.Contains(s, "0123456789abcdef") {
		t.Error("formatting the configuration shows a token")
	}
}

// TestEtcdIntervals reads the cluster's configuration as a member does that kubeadm makes: it
// has to run with the intervals of the others.
func TestEtcdIntervals(t *testing.T) {
	c := kubeadmtest.Config(t, func(n *node.Node) {
		n.Etcd.HeartbeatInterval, n.Etcd.ElectionTimeout = node.Duration(500*time.Millisecond), node.Duration(5*time.Second)
		n.Etcd.ExtraArgs = map[string]string{"snapshot-count": "5000"}
		n.ControllerManager.ExtraArgs, n.Scheduler.ExtraArgs = map[string]string{"v": "3"}, map[string]string{"v": "4"}
	})
	want := []Arg{{"election-timeout", "5000"}, {"heartbeat-interval", "500"}, {"snapshot-count", "5000"}}
	k := NewClusterConfiguration(c)
	if got := k.Etcd.Local.ExtraArgs; !slices.Equal(got, want) {
		t.Errorf("extraArgs %v, want %v", got, want)
	}
	if cm, s := k.ControllerManager.ExtraArgs, k.Scheduler.ExtraArgs; !slices.Equal(cm, []Arg{{"v", "3"}}) || !slices.Equal(s, []Arg{{"v", "4"}}) {
		t.Errorf("extraArgs of the controller manager %v, of the scheduler %v", cm, s)
	}
}

// A cut between the objects of the administrator's certificate is seen, as the certificate is last.
func TestAdminCertificateComesLast(t *testing.T) {
	objs := AdminAccess([]byte("x"))
	last, ok := objs[len(objs)-1].(*corev1.ConfigMap)
	if !ok || len(objs) != 3 || last.Data[AdminCertificate] != "x" {
		t.Errorf("%v", objs)
	}
}

// SPDX-License-Identifier: Apache-2.0

package check

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

var objectChecks = []Check{
	{ID: "D17", Title: "ConfigMap kubeadm-config", NeedsAPI: true, run: checkKubeadmConfig},
	{ID: "D18", Title: "ConfigMaps kubelet-config and kube-proxy and their hashes", NeedsAPI: true, run: checkComponentConfigs},
	{ID: "D19", Title: "who may read the configurations", NeedsAPI: true, run: checkConfigRoles},
	{ID: "D20", Title: "cluster role bindings", NeedsAPI: true, run: checkClusterBindings},
	{ID: "D21", Title: "ConfigMap cluster-info", NeedsAPI: true, run: checkClusterInfo},
	{ID: "D22", Title: "bootstrap tokens", NeedsAPI: true, run: checkTokens},
	{ID: "D23", Title: "labels and taints of this node", NeedsAPI: true, run: checkNode},
}

const (
	system = metav1.NamespaceSystem
	boot   = "Group system:bootstrappers:kubeadm:default-node-token"
	nodes  = "Group system:nodes"
)

func named(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func (e *Env) configMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	cm := &corev1.ConfigMap{ObjectMeta: named(namespace, name)}
	return cm, e.API.Get(ctx, cm)
}

func checkKubeadmConfig(ctx context.Context, e *Env) error {
	var p problems
	cm, err := e.configMap(ctx, system, "kubeadm-config")
	if err != nil {
		return err
	}
	equal(&p, "kubeadm-config keys", slices.Sorted(maps.Keys(cm.Data)), []string{"ClusterConfiguration"})
	got := map[string]any{}
	if err := yaml.Unmarshal([]byte(cm.Data["ClusterConfiguration"]), &got); err != nil {
		return fmt.Errorf("kubeadm-config: %w", err)
	}
	c := e.Config
	for path, want := range map[string]string{
		"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration", "kubernetesVersion": c.KubernetesVersion,
		"controlPlaneEndpoint": c.Endpoint(), "certificatesDir": "/etc/kubernetes/pki", "clusterName": c.ClusterName,
		"encryptionAlgorithm": string(c.Algorithm), "networking.dnsDomain": c.DNSDomain,
		"networking.podSubnet": c.PodSubnet.String(), "networking.serviceSubnet": c.ServiceSubnet.String(),
		"etcd.local.dataDir": "/var/lib/etcd", "certificateValidityPeriod": c.Validity.String(),
		"caCertificateValidityPeriod": c.CAValidity.String(),
	} {
		equal(&p, "kubeadm-config "+path, fmt.Sprint(at(got, path)), want)
	}
	return p.err()
}

func checkComponentConfigs(ctx context.Context, e *Env) error {
	var p problems
	for name, keys := range map[string][]string{"kubelet-config": {"kubelet"}, "kube-proxy": {"config.conf", "kubeconfig.conf"}} {
		cm, err := e.configMap(ctx, system, name)
		if p.add(err); err != nil {
			continue
		}
		equal(&p, name+" keys", slices.Sorted(maps.Keys(cm.Data)), keys)
		h := sha256.New()
		for _, k := range keys {
			h.Write([]byte(cm.Data[k]))
		}
		equal(&p, name+" hash", cm.Annotations["kubeadm.kubernetes.io/component-config.hash"], "sha256:"+hex.EncodeToString(h.Sum(nil)))
		if name != "kubelet-config" {
			continue
		}
		shared := map[string]any{}
		p.add(yaml.Unmarshal([]byte(cm.Data["kubelet"]), &shared))
		file, err := e.yamlFile(kubeadm.KubeletDir + "/config.yaml")
		if p.add(err); err != nil {
			continue
		}
		equal(&p, "kubelet-config containerRuntimeEndpoint", fmt.Sprint(shared["containerRuntimeEndpoint"]), "")
		delete(shared, "containerRuntimeEndpoint")
		delete(file, "containerRuntimeEndpoint")
		equal(&p, "config.yaml on this node, against kubelet-config,", file, shared)
	}
	return p.err()
}

func subjects(list []rbacv1.Subject) []string {
	var out []string
	for _, s := range list {
		out = append(out, s.Kind+" "+strings.TrimPrefix(s.Namespace+"/"+s.Name, "/"))
	}
	slices.Sort(out)
	return out
}

// readRole checks a Role that may get one object, and its binding of the same name.
func (e *Env) readRole(ctx context.Context, p *problems, namespace, name, resource, object string, want ...string) {
	role := &rbacv1.Role{ObjectMeta: named(namespace, name)}
	if err := e.API.Get(ctx, role); err != nil {
		p.add(err)
	} else {
		equal(p, "Role "+name, role.Rules, []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{resource}, ResourceNames: []string{object}}})
	}
	rb := &rbacv1.RoleBinding{ObjectMeta: named(namespace, name)}
	if err := e.API.Get(ctx, rb); err != nil {
		p.add(err)
		return
	}
	equal(p, "RoleBinding "+name+" role", rb.RoleRef.Kind+" "+rb.RoleRef.Name, "Role "+name)
	slices.Sort(want)
	equal(p, "RoleBinding "+name+" subjects", subjects(rb.Subjects), want)
}

func checkConfigRoles(ctx context.Context, e *Env) error {
	var p problems
	e.readRole(ctx, &p, system, "kubeadm:nodes-kubeadm-config", "configmaps", "kubeadm-config", boot, nodes)
	e.readRole(ctx, &p, system, "kubeadm:kubelet-config", "configmaps", "kubelet-config", boot, nodes)
	return p.err()
}

func (e *Env) clusterBinding(ctx context.Context, p *problems, name, role, subject string) {
	b := &rbacv1.ClusterRoleBinding{ObjectMeta: named("", name)}
	if err := e.API.Get(ctx, b); err != nil {
		p.add(err)
		return
	}
	equal(p, "ClusterRoleBinding "+name, fmt.Sprint(b.RoleRef.Kind, " ", b.RoleRef.Name, " ", subjects(b.Subjects)), "ClusterRole "+role+" ["+subject+"]")
}

func checkClusterBindings(ctx context.Context, e *Env) error {
	var p problems
	const csr = "system:certificates.k8s.io:certificatesigningrequests:"
	for _, w := range [][3]string{
		{"kubeadm:cluster-admins", "cluster-admin", "Group kubeadm:cluster-admins"},
		{"kubeadm:get-nodes", "kubeadm:get-nodes", boot},
		{"kubeadm:kubelet-bootstrap", "system:node-bootstrapper", boot},
		{"kubeadm:node-autoapprove-bootstrap", csr + "nodeclient", boot},
		{"kubeadm:node-autoapprove-certificate-rotation", csr + "selfnodeclient", nodes},
		{"kubeadm:apiserver-kubelet-client", "system:kubelet-api-admin", "User kube-apiserver-kubelet-client"},
		{"kubeadm:node-proxier", "system:node-proxier", "ServiceAccount kube-system/kube-proxy"},
	} {
		e.clusterBinding(ctx, &p, w[0], w[1], w[2])
	}
	role := &rbacv1.ClusterRole{ObjectMeta: named("", "kubeadm:get-nodes")}
	if err := e.API.Get(ctx, role); err != nil {
		p.add(err)
	} else {
		equal(&p, "ClusterRole kubeadm:get-nodes", role.Rules, []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"nodes"}}})
	}
	return p.err()
}

func checkClusterInfo(ctx context.Context, e *Env) error {
	var p problems
	cm, err := e.configMap(ctx, metav1.NamespacePublic, "cluster-info")
	if err != nil {
		return err
	}
	var cfg clientcmd.Config
	if err := yaml.Unmarshal([]byte(cm.Data["kubeconfig"]), &cfg); err != nil {
		return fmt.Errorf("cluster-info: %w", err)
	}
	equal(&p, "cluster-info users and contexts", len(cfg.AuthInfos)+len(cfg.Contexts), 0)
	if len(cfg.Clusters) != 1 || cfg.Clusters[0].Name != "" {
		p.addf("cluster-info does not hold exactly one cluster, without a name")
	} else {
		equal(&p, "cluster-info server", cfg.Clusters[0].Cluster.Server, e.Config.EndpointURL())
		ca, err := os.ReadFile(e.path(kubeadm.PKIDir + "/ca.crt"))
		p.add(err)
		if !bytes.Equal(bytes.TrimSpace(ca), bytes.TrimSpace(cfg.Clusters[0].Cluster.CertificateAuthorityData)) {
			p.addf("cluster-info trusts another authority than ca.crt")
		}
	}
	e.readRole(ctx, &p, metav1.NamespacePublic, "kubeadm:bootstrap-signer-clusterinfo", "configmaps", "cluster-info", "User system:anonymous")
	return p.err()
}

var rfc3339UTC = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`)

func checkTokens(ctx context.Context, e *Env) error {
	var p problems
	for _, t := range e.Config.Tokens {
		s := &corev1.Secret{ObjectMeta: named(system, "bootstrap-token-"+t.ID)}
		if err := e.API.Get(ctx, s); err != nil {
			p.add(err)
			continue
		}
		equal(&p, s.Name+" type", string(s.Type), "bootstrap.kubernetes.io/token")
		for k, want := range map[string]string{"token-id": t.ID, "usage-bootstrap-authentication": "true",
			"usage-bootstrap-signing": "true", "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token"} {
			equal(&p, s.Name+" "+k, string(s.Data[k]), want)
		}
		if string(s.Data["token-secret"]) != t.Secret.Reveal() {
			p.addf("%s: the secret differs from the node document's", s.Name)
		}
		if x := s.Data["expiration"]; !t.Expiration.IsZero() && !rfc3339UTC.Match(x) {
			p.addf("%s: expiration %q is not an RFC 3339 time in UTC", s.Name, x)
		}
	}
	return p.err()
}

func checkNode(ctx context.Context, e *Env) error {
	var p problems
	n := &corev1.Node{ObjectMeta: named("", e.Config.NodeName)}
	if err := e.API.Get(ctx, n); err != nil {
		return err
	}
	for _, l := range []string{"node-role.kubernetes.io/control-plane", "node.kubernetes.io/exclude-from-external-load-balancers"} {
		if v, ok := n.Labels[l]; !ok || v != "" {
			p.addf("node %s: label %s is missing or not empty", n.Name, l)
		}
	}
	want := []node.Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: "NoSchedule"}}
	if e.Config.Taints != nil {
		want = *e.Config.Taints
	}
	for _, t := range want {
		if !slices.ContainsFunc(n.Spec.Taints, func(x corev1.Taint) bool {
			return x.Key == t.Key && x.Value == t.Value && string(x.Effect) == t.Effect
		}) {
			p.addf("node %s: taint %s:%s is missing", n.Name, t.Key, t.Effect)
		}
	}
	if _, ok := n.Annotations["kubeadm.alpha.kubernetes.io/cri-socket"]; ok {
		p.addf("node %s carries the obsolete cri-socket annotation", n.Name)
	}
	return p.err()
}

// SPDX-License-Identifier: Apache-2.0

package addons

import (
	"strings"

	yamlv2 "go.yaml.in/yaml/v2"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	v1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kube-proxy/config/v1alpha1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/manifests/verity"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

const proxyDir = "/var/lib/kube-proxy"

// ProxyConfiguration is the configuration of kube-proxy on every node.
func ProxyConfiguration(c *kubeadm.Config) *v1alpha1.KubeProxyConfiguration {
	k := &v1alpha1.KubeProxyConfiguration{
		TypeMeta:    v1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "KubeProxyConfiguration"},
		BindAddress: "0.0.0.0",
		ClusterCIDR: c.PodSubnet.String(),
	}
	if c.Address.Is6() {
		k.BindAddress = "::"
	}
	k.ClientConnection.Kubeconfig = proxyDir + "/kubeconfig.conf"
	if c.ProxyMode != node.ProxyUpstream {
		k.Mode = v1alpha1.ProxyMode(c.ProxyMode)
	}
	return k
}

// proxyKubeconfig makes kube-proxy reach the API through the endpoint with its service account.
// The order of its fields is fixed: kubeadm recognises the ConfigMap by a hash over its text,
// so the text is a contract, not only its meaning.
func proxyKubeconfig(server string) ([]byte, error) {
	type m = yamlv2.MapSlice
	const name, account = "default", "/var/run/secrets/kubernetes.io/serviceaccount/"
	return yamlv2.Marshal(m{
		{Key: "apiVersion", Value: "v1"},
		{Key: "kind", Value: "Config"},
		{Key: "clusters", Value: []m{{
			{Key: "cluster", Value: m{{Key: "certificate-authority", Value: account + "ca.crt"}, {Key: "server", Value: server}}},
			{Key: "name", Value: name}}}},
		{Key: "contexts", Value: []m{{
			{Key: "context", Value: m{{Key: "cluster", Value: name}, {Key: "namespace", Value: name}, {Key: "user", Value: name}}},
			{Key: "name", Value: name}}}},
		{Key: "current-context", Value: name},
		{Key: "users", Value: []m{{
			{Key: "name", Value: name},
			{Key: "user", Value: m{{Key: "tokenFile", Value: account + "token"}}}}}},
	})
}

// ProxyConfigMap carries kube-proxy's configuration and kubeconfig.
func ProxyConfigMap(c *kubeadm.Config) (*corev1.ConfigMap, error) {
	config, err := yaml.Marshal(ProxyConfiguration(c))
	if err != nil {
		return nil, encodeError("the kube-proxy configuration", err)
	}
	kubeconfig, err := proxyKubeconfig(c.EndpointURL())
	if err != nil {
		return nil, encodeError("kube-proxy's kubeconfig", err)
	}
	cm := configMap(v1.NamespaceSystem, kubeadm.Proxy, map[string]string{
		"config.conf":     strings.TrimSuffix(string(config), "\n"),
		"kubeconfig.conf": strings.TrimSuffix(string(kubeconfig), "\n"),
	}, true)
	cm.Labels = map[string]string{"app": kubeadm.Proxy}
	return cm, nil
}

func proxy(c *kubeadm.Config, _ Inputs) ([]Object, error) {
	cm, err := ProxyConfigMap(c)
	if err != nil {
		return nil, err
	}
	ds := proxyDaemonSet(c, c.Verity(kubeadm.Proxy))
	objs := in(AddonProxy, cm, ds, serviceAccount(v1.NamespaceSystem, kubeadm.Proxy),
		clusterBinding("kubeadm:node-proxier", "system:node-proxier", account(v1.NamespaceSystem, kubeadm.Proxy)))
	if image := c.Delivery.ForeignImages[kubeadm.Proxy]; image != "" {
		onOurs(ds)
		objs = append(objs, in(AddonProxy, onForeign(proxyDaemonSet(c, false), image))...)
	}
	return append(objs, in(AddonProxy, readOne(v1.NamespaceSystem, kubeadm.Proxy, "configmaps", kubeadm.Proxy, group(kubeadm.BootstrapGroup))...)...), nil
}

func proxyDaemonSet(c *kubeadm.Config, fromUsr bool) *appsv1.DaemonSet {
	privileged := true
	labels := map[string]string{"k8s-app": kubeadm.Proxy}
	lock := corev1.HostPathFileOrCreate
	spec := corev1.PodSpec{
		HostNetwork: true, NodeSelector: map[string]string{"kubernetes.io/os": "linux"},
		PriorityClassName: "system-node-critical", ServiceAccountName: kubeadm.Proxy,
		Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		Containers: []corev1.Container{{
			Name: kubeadm.Proxy, Image: c.Image(kubeadm.Proxy), ImagePullPolicy: corev1.PullIfNotPresent,
			Command: []string{"/usr/local/bin/kube-proxy", "--config=" + proxyDir + "/config.conf", "--hostname-override=$(NODE_NAME)"},
			Env: []corev1.EnvVar{{Name: "NODE_NAME", ValueFrom: &corev1.EnvVarSource{
				FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}}},
			SecurityContext: &corev1.SecurityContext{Privileged: &privileged},
			VolumeMounts: []corev1.VolumeMount{
				{Name: kubeadm.Proxy, MountPath: proxyDir},
				{Name: "xtables-lock", MountPath: "/run/xtables.lock"},
			},
		}},
		Volumes: []corev1.Volume{
			{Name: kubeadm.Proxy, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: kubeadm.Proxy}}}},
			{Name: "xtables-lock", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/run/xtables.lock", Type: &lock}}},
		},
	}
	if fromUsr {
		fromHost(c, kubeadm.Proxy, &spec) // with it comes /lib/modules, which is a part of /usr
	} else {
		spec.Containers[0].VolumeMounts = append(spec.Containers[0].VolumeMounts,
			corev1.VolumeMount{Name: "lib-modules", MountPath: "/lib/modules", ReadOnly: true})
		spec.Volumes = append(spec.Volumes, corev1.Volume{Name: "lib-modules", VolumeSource: corev1.VolumeSource{
			HostPath: &corev1.HostPathVolumeSource{Path: "/lib/modules"}}})
	}
	return daemonSet(v1.NamespaceSystem, kubeadm.Proxy, labels, spec)
}

// fromHost runs a component's programs from the host's /usr, on nodes that have them.
func fromHost(c *kubeadm.Config, component string, spec *corev1.PodSpec) {
	verity.Use(spec, verity.Ref(component, c.KubernetesVersion))
	if spec.NodeSelector == nil {
		spec.NodeSelector = map[string]string{}
	}
	spec.NodeSelector[kubeadm.DeliveryLabel] = string(node.DeliveryVerity)
}

func daemonSet(namespace, name string, labels map[string]string, spec corev1.PodSpec) *appsv1.DaemonSet {
	d := &appsv1.DaemonSet{
		TypeMeta:   v1.TypeMeta{APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "DaemonSet"},
		ObjectMeta: meta(namespace, name),
		Spec: appsv1.DaemonSetSpec{
			Selector:       &v1.LabelSelector{MatchLabels: labels},
			Template:       corev1.PodTemplateSpec{ObjectMeta: v1.ObjectMeta{Labels: labels}, Spec: spec},
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType},
		},
	}
	d.Labels = labels
	return d
}

// SPDX-License-Identifier: Apache-2.0

package addons

import (
	"cmp"
	"encoding/json"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	v1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

const (
	flannelNamespace = "kube-flannel"
	flannelConfig    = "kube-flannel-cfg"
)

// NetConf is flannel's network configuration, net-conf.json.
type NetConf struct {
	Network        string  `json:"Network,omitempty"`
	EnableIPv4     bool    `json:"EnableIPv4"`
	EnableIPv6     bool    `json:"EnableIPv6,omitempty"`
	IPv6Network    string  `json:"IPv6Network,omitempty"`
	EnableNFTables bool    `json:"EnableNFTables"`
	Backend        Backend `json:"Backend"`
}

// Backend selects how flannel carries packets between nodes.
type Backend struct {
	Type string `json:"Type"`
	MTU  int    `json:"MTU,omitempty"`
}

// NewNetConf is the overlay for the pod network: VXLAN, with packet filter rules written by
// the same subsystem that kube-proxy uses.
func NewNetConf(c *kubeadm.Config) NetConf {
	n := NetConf{EnableNFTables: c.ProxyMode == node.ProxyNFTables, Backend: Backend{Type: "vxlan", MTU: c.Network.MTU}}
	if c.PodSubnet.Addr().Is6() {
		n.EnableIPv6, n.IPv6Network = true, c.PodSubnet.String()
	} else {
		n.EnableIPv4, n.Network = true, c.PodSubnet.String()
	}
	return n
}

func network(c *kubeadm.Config, _ Inputs) ([]Object, error) {
	if c.Network.Provider != node.NetworkFlannel {
		return nil, nil
	}
	conf, err := json.MarshalIndent(NewNetConf(c), "", "  ")
	if err != nil {
		return nil, encodeError("flannel's net-conf.json", err)
	}
	ns := &corev1.Namespace{TypeMeta: v1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: meta("", flannelNamespace)}
	ns.Labels = map[string]string{"k8s-app": kubeadm.Flannel, "pod-security.kubernetes.io/enforce": "privileged"}
	cm := configMap(flannelNamespace, flannelConfig, map[string]string{"net-conf.json": string(conf) + "\n"}, false)
	cm.Labels = map[string]string{"app": kubeadm.Flannel, "k8s-app": kubeadm.Flannel, "tier": "node"}
	objs := in(AddonNetwork, ns,
		clusterRole(kubeadm.Flannel,
			rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}},
			rbacv1.PolicyRule{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{""}, Resources: []string{"nodes"}},
			rbacv1.PolicyRule{Verbs: []string{"patch"}, APIGroups: []string{""}, Resources: []string{"nodes/status"}}),
		clusterBinding(kubeadm.Flannel, kubeadm.Flannel, account(flannelNamespace, kubeadm.Flannel)))
	ds := flannelDaemonSet(c, c.Verity(kubeadm.Flannel))
	rest := []runtime.Object{serviceAccount(flannelNamespace, kubeadm.Flannel), cm, ds}
	if image := c.Delivery.ForeignImages[kubeadm.Flannel]; image != "" {
		other := flannelDaemonSet(c, false)
		attachForeign(&other.Spec.Template.Spec, image, NewNetConf(c).EnableNFTables)
		onOurs(ds)
		rest = append(rest, onForeign(other, image))
	}
	for _, o := range rest {
		objs = append(objs, Object{Phase: AddonNetwork, Policy: Replace, Obj: o, After: []string{Key(ns)}})
	}
	return objs, nil
}

func flannelDaemonSet(c *kubeadm.Config, fromUsr bool) *appsv1.DaemonSet {
	no := false
	created := corev1.HostPathDirectoryOrCreate
	field := func(env, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: env, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
	}
	// The address by which the kubelet knows the node. Left to itself flannel takes the interface
	// of the default route, and of an interface the first fixed address: beside one from DHCP that
	// is the virtual address, on the machine that has it.
	command := []string{"/usr/bin/flanneld", "--ip-masq", "--kube-subnet-mgr", "--iface=" + cmp.Or(c.Network.Interface, "$(NODE_IP)")}
	spec := corev1.PodSpec{
		HostNetwork: true, PriorityClassName: "system-node-critical", ServiceAccountName: kubeadm.Flannel,
		NodeSelector: map[string]string{"kubernetes.io/os": "linux"},
		Tolerations:  []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		Containers: []corev1.Container{{
			Name: kubeadm.Flannel, Image: c.Delivery.Images[kubeadm.Flannel], ImagePullPolicy: corev1.PullIfNotPresent,
			Command: command,
			Env: []corev1.EnvVar{
				field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace"), field("NODE_IP", "status.hostIP"),
				{Name: "EVENT_QUEUE_DEPTH", Value: "5000"},
				// The endpoint instead of the service address: flannel then does not fail, and
				// wait to be restarted, until kube-proxy has made that address work.
				{Name: "KUBERNETES_SERVICE_HOST", Value: c.EndpointHost},
				{Name: "KUBERNETES_SERVICE_PORT", Value: strconv.Itoa(int(c.EndpointPort))},
			},
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("50Mi")}},
			SecurityContext: &corev1.SecurityContext{Privileged: &no,
				Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN", "NET_RAW"}}},
			VolumeMounts: []corev1.VolumeMount{
				{Name: "run", MountPath: "/run/flannel"},
				{Name: "config", MountPath: "/etc/kube-flannel", ReadOnly: true}},
		}},
		Volumes: []corev1.Volume{
			{Name: "run", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/run/flannel", Type: &created}}},
			{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: flannelConfig}}}},
		},
	}
	if fromUsr {
		fromHost(c, kubeadm.Flannel, &spec)
	} else {
		spec.Containers[0].Command[0] = "/opt/bin/flanneld" // where upstream's image has it
	}
	return daemonSet(flannelNamespace, "kube-flannel-ds", map[string]string{"app": kubeadm.Flannel}, spec)
}

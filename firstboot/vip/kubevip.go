// SPDX-License-Identifier: Apache-2.0

package vip

import (
	"net/netip"
	"path"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/manifests"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// KubeVIPName is the name of kube-vip's static pod.
const KubeVIPName = "kube-vip"

// KubeVIP renders kube-vip's static pod. conf is the kubeconfig below /etc/kubernetes it logs
// in with: admin.conf, or super-admin.conf where the binding that makes administrators of
// admin.conf does not exist yet. kube-vip looks for it under the name admin.conf and asks the
// server called "kubernetes", which has to be the one beside it: the address that the file
// itself names is the one kube-vip is to bring up.
func KubeVIP(n *node.Node, c *kubeadm.Config, iface, conf string) (kubeadm.File, error) {
	vip := c.VIP.Unmap()
	env := func(name, value string) corev1.EnvVar { return corev1.EnvVar{Name: name, Value: value} }
	bits := strconv.Itoa(vip.BitLen())
	seconds := func(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }
	// kube-vip's own manifests have 5 s, 3 s and 1 s.
	lease := n.VIP.LeaseDuration.D()
	file, priority := corev1.HostPathFile, int32(2000001000) // of system-node-critical
	pod := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: KubeVIPName, Namespace: metav1.NamespaceSystem, Labels: map[string]string{"component": KubeVIPName, "tier": "control-plane"}},
		Spec: corev1.PodSpec{
			HostNetwork: true, Priority: &priority, PriorityClassName: "system-node-critical",
			HostAliases: []corev1.HostAlias{{IP: loopback(vip), Hostnames: []string{"kubernetes"}}},
			SecurityContext: &corev1.PodSecurityContext{
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{
				Name: KubeVIPName, Image: n.VIP.Image, ImagePullPolicy: corev1.PullIfNotPresent,
				Args: []string{"manager"},
				Env: []corev1.EnvVar{
					env("address", vip.String()),
					env("port", strconv.Itoa(int(c.APIPort))),
					env("vip_interface", iface),
					env("vip_arp", "true"),
					// One name in releases up to 0.8, the other after it.
					env("vip_cidr", bits),
					env("vip_subnet", bits),
					env("cp_enable", "true"),
					env("cp_namespace", metav1.NamespaceSystem),
					env("vip_leaderelection", "true"),
					env("vip_leaseduration", seconds(lease)),
					env("vip_renewdeadline", seconds(lease*3/5)),
					env("vip_retryperiod", seconds(lease/5)),
					{Name: "vip_nodename", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "spec.nodeName"}}},
				},
				SecurityContext: &corev1.SecurityContext{Capabilities: &corev1.Capabilities{
					Add: []corev1.Capability{"NET_ADMIN", "NET_RAW"}, Drop: []corev1.Capability{"ALL"}}},
				VolumeMounts: []corev1.VolumeMount{{Name: "kubeconfig", MountPath: path.Join(kubeadm.Dir, kubeconfig.Admin), ReadOnly: true}},
			}},
			Volumes: []corev1.Volume{{Name: "kubeconfig", VolumeSource: corev1.VolumeSource{
				HostPath: &corev1.HostPathVolumeSource{Path: path.Join(kubeadm.Dir, conf), Type: &file}}}},
		},
	}
	return manifests.File(pod)
}

// loopback is the loopback address of a's family.
func loopback(a netip.Addr) string {
	if a.Is6() {
		return "::1"
	}
	return "127.0.0.1"
}

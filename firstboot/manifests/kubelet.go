// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubelet "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// KubeletExtraArgsFile is the environment file in which the kubelet unit finds
// KUBELET_EXTRA_ARGS: what this machine needs beyond what kubeadm writes.
const KubeletExtraArgsFile = "/etc/default/kubelet"

// ClusterKubelet is the kubelet configuration every node shares, as the kubelet-config
// ConfigMap carries it: without the address of a container runtime.
func ClusterKubelet(c *kubeadm.Config) *kubelet.KubeletConfiguration {
	no, yes := false, true
	healthPort := int32(kubeadm.KubeletHealthPort)
	k := &kubelet.KubeletConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: "kubelet.config.k8s.io/v1beta1", Kind: "KubeletConfiguration"},
		Authentication: kubelet.KubeletAuthentication{
			Anonymous: kubelet.KubeletAnonymousAuthentication{Enabled: &no},
			Webhook:   kubelet.KubeletWebhookAuthentication{Enabled: &yes},
			X509:      kubelet.KubeletX509Authentication{ClientCAFile: pki("ca.crt")},
		},
		Authorization:      kubelet.KubeletAuthorization{Mode: kubelet.KubeletAuthorizationModeWebhook},
		CgroupDriver:       "systemd",
		ClusterDNS:         []string{c.ServiceIP(10).String()},
		ClusterDomain:      c.DNSDomain,
		HealthzBindAddress: c.Loopback(),
		HealthzPort:        &healthPort,
		RotateCertificates: true,
		StaticPodPath:      kubeadm.ManifestsDir,
		MaxPods:            c.SharedKubelet.MaxPods,
		SystemReserved:     c.SharedKubelet.SystemReserved,
		KubeReserved:       c.SharedKubelet.KubeReserved,
	}
	Evictions(k, c.SharedKubelet)
	resolv := c.SharedKubelet.ResolvConf
	if resolv == "" {
		resolv = c.UploadResolvConf
	}
	if resolv != "" {
		k.ResolverConfig = &resolv
	}
	return k
}

// Evictions puts the thresholds that a document gives into a configuration. What a hard
// threshold leaves out keeps its default: the kubelet would otherwise turn it off.
func Evictions(k *kubelet.KubeletConfiguration, own node.Kubelet) {
	if own.EvictionHard != nil {
		yes := true
		k.EvictionHard, k.MergeDefaultEvictionSettings = own.EvictionHard, &yes
	}
	if own.EvictionSoft != nil {
		k.EvictionSoft, k.EvictionSoftGracePeriod = own.EvictionSoft, map[string]string{}
		for signal, d := range own.EvictionSoftGracePeriod {
			k.EvictionSoftGracePeriod[signal] = d.D().String()
		}
	}
}

// KubeletFiles renders config.yaml, instance-config.yaml and kubeadm-flags.env from the shared
// configuration (of this machine, or read from the cluster when joining), and the machine's
// own extra arguments.
func KubeletFiles(c *kubeadm.Config, shared *kubelet.KubeletConfiguration) ([]kubeadm.File, error) {
	k := shared.DeepCopy()
	k.ContainerRuntimeEndpoint = kubeadm.CRISocket
	config, err := yaml.Marshal(k)
	if err != nil {
		return nil, fmt.Errorf("kubelet configuration: %w", err)
	}
	file := func(name, data string) kubeadm.File {
		return kubeadm.File{Path: path.Join(kubeadm.KubeletDir, name), Mode: 0o644, Data: []byte(data)}
	}
	return []kubeadm.File{
		file("config.yaml", string(config)),
		file("instance-config.yaml", fmt.Sprintf("containerRuntimeEndpoint: %q\n", kubeadm.CRISocket)),
		file("kubeadm-flags.env", fmt.Sprintf("KUBELET_KUBEADM_ARGS=%q\n", strings.Join(kubeadmArgs(c), " "))),
		{Path: KubeletExtraArgsFile, Mode: 0o644, Data: fmt.Appendf(nil, "KUBELET_EXTRA_ARGS=%q\n", strings.Join(extraArgs(c), " "))},
	}, nil
}

// kubeadmArgs are the arguments kubeadm itself would hand to the kubelet.
func kubeadmArgs(c *kubeadm.Config) []string {
	var args []string
	if c.NodeName != c.Hostname {
		args = append(args, "--hostname-override="+c.NodeName)
	}
	if c.Role == node.Worker && c.Taints != nil && len(*c.Taints) > 0 {
		var taints []string
		for _, t := range *c.Taints {
			taints = append(taints, fmt.Sprintf("%s=%s:%s", t.Key, t.Value, t.Effect))
		}
		args = append(args, "--register-with-taints="+strings.Join(taints, ","))
	}
	return args
}

// extraArgs give the node, at the moment it registers, the label that add-ons running from the
// host's /usr select, and the labels that a kubelet may set on its own node.
func extraArgs(c *kubeadm.Config) []string {
	labels := SelfLabels(c)
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, k+"="+labels[k])
	}
	args := []string{"--node-labels=" + strings.Join(pairs, ",")}
	// Left to itself the kubelet takes an address of the default route's interface, which may
	// be the virtual one.
	if c.AddressPinned || c.Role == node.ControlPlane && c.VIP.IsValid() {
		args = append(args, "--node-ip="+c.Address.String())
	}
	return args
}

// SelfLabels are the labels the kubelet registers with; AdminLabels those that only an
// administrator may set, because the NodeRestriction admission plugin reserves them.
func SelfLabels(c *kubeadm.Config) map[string]string {
	out := map[string]string{kubeadm.DeliveryLabel: string(node.DeliveryVerity)}
	for k, v := range c.Labels {
		if node.KubeletMaySet(k) {
			out[k] = v
		}
	}
	return out
}

// AdminLabels returns the labels to patch onto the node, those of its role included.
func AdminLabels(c *kubeadm.Config) map[string]string {
	out := map[string]string{}
	if c.Role == node.ControlPlane {
		out[kubeadm.ControlPlaneLabel], out[kubeadm.ExcludeLBLabel] = "", ""
	}
	for k, v := range c.Labels {
		if !node.KubeletMaySet(k) {
			out[k] = v
		}
	}
	return out
}

// NodeTaints returns the taints to patch onto a control plane.
func NodeTaints(c *kubeadm.Config) []node.Taint {
	if c.Taints != nil {
		return *c.Taints
	}
	if c.Role == node.ControlPlane {
		return []node.Taint{{Key: kubeadm.ControlPlaneTaint, Effect: "NoSchedule"}}
	}
	return nil
}

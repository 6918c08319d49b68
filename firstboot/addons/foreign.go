// SPDX-License-Identifier: Apache-2.0

package addons

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	v1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/imgbuild/imgbuild/firstboot/addons/cni"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// foreignSuffix ends the name and the label of a DaemonSet for nodes that are not ours.
const foreignSuffix = "-foreign"

// onOurs keeps a component's DaemonSet to nodes with our label, which have one whatever the
// component is delivered as.
func onOurs(d *appsv1.DaemonSet) {
	d.Spec.Template.Spec.NodeSelector[kubeadm.DeliveryLabel] = string(node.DeliveryVerity)
}

// onForeign makes of a component's DaemonSet the one for nodes without our label. Its pods
// have a label of their own, so that neither selects those of the other.
func onForeign(d *appsv1.DaemonSet, image string) *appsv1.DaemonSet {
	labels := map[string]string{}
	for k, v := range d.Labels {
		labels[k] = v + foreignSuffix
	}
	d.Name += foreignSuffix
	d.Labels, d.Spec.Template.Labels = labels, labels
	d.Spec.Selector = &v1.LabelSelector{MatchLabels: labels}
	spec := &d.Spec.Template.Spec
	spec.Containers[0].Image = image
	spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: kubeadm.DeliveryLabel,
				Operator: corev1.NodeSelectorOpNotIn, Values: []string{string(node.DeliveryVerity)}}}}}}}}
	return d
}

// attachScript does on a node that is not ours what firstboot does on ours: it turns flannel's
// subnet file into the runtime's configuration. The plugins are those every node of
// Kubernetes' own packages has. The file is replaced in one step and only when it differs.
// Flannel writes the first address of the subnet, so the subnet's own is one below it.
const attachScript = `file=/host/cni/10-imgbuild-foreign.conflist
while :; do
  if [ -s @subnet@ ]; then
    . @subnet@
    if [ -n "$FLANNEL_SUBNET" ]; then
      first=${FLANNEL_SUBNET%/*} bits=${FLANNEL_SUBNET#*/} cluster=$FLANNEL_NETWORK
      range=${first%.*}.$((${first##*.} - 1))/$bits
    else
      first=${FLANNEL_IPV6_SUBNET%/*} bits=${FLANNEL_IPV6_SUBNET#*/} cluster=$FLANNEL_IPV6_NETWORK
      range=${first%:*}:$(printf %x $((0x${first##*:} - 1)))/$bits
    fi
    masq=true; [ "$FLANNEL_IPMASQ" = true ] && masq=false
    cat > "$file.new" <<END
{"cniVersion":"1.0.0","name":"imgbuild","plugins":[
{"type":"bridge","bridge":"@bridge@","mtu":$FLANNEL_MTU,"isGateway":true,"isDefaultGateway":true,"hairpinMode":true,"ipMasq":$masq,
"ipam":{"type":"host-local","dataDir":"/run/cni/networks","ranges":[[{"subnet":"$range"}]],"routes":[{"dst":"$cluster"}]}},
{"type":"portmap","capabilities":{"portMappings":true}@backend@}]}
END
    if cmp -s "$file.new" "$file"; then rm "$file.new"; else mv "$file.new" "$file"; fi
  fi
  sleep 2
done
`

// attachForeign adds the container that configures how the node attaches pods.
func attachForeign(spec *corev1.PodSpec, image string, nftables bool) {
	backend := ""
	if nftables {
		backend = `,"backend":"nftables"`
	}
	script := strings.NewReplacer("@subnet@", cni.SubnetFile, "@bridge@", cni.Bridge, "@backend@", backend).Replace(attachScript)
	created := corev1.HostPathDirectoryOrCreate
	spec.Containers = append(spec.Containers, corev1.Container{
		Name: "attach", Image: image, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"/bin/sh", "-c", script},
		VolumeMounts: []corev1.VolumeMount{{Name: "run", MountPath: "/run/flannel", ReadOnly: true}, {Name: "cni", MountPath: "/host/cni"}},
	})
	spec.Volumes = append(spec.Volumes, corev1.Volume{Name: "cni", VolumeSource: corev1.VolumeSource{
		HostPath: &corev1.HostPathVolumeSource{Path: "/etc/cni/net.d", Type: &created}}})
}

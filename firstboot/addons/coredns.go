// SPDX-License-Identifier: Apache-2.0

package addons

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	v1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
)

// Ports of CoreDNS inside its pod.
const (
	dnsPort       = 53
	dnsMetrics    = 9153
	dnsLiveness   = 8080
	dnsReadiness  = 8181
	livenessName  = "liveness-probe"
	readinessName = "readiness-probe"
)

// Corefile is CoreDNS's configuration for a cluster domain. Upgrades compare it with what
// kubeadm would write, so its layout is that of kubeadm's.
func Corefile(domain string) string {
	var b strings.Builder
	line := func(depth int, s string) { b.WriteString(strings.Repeat(" ", depth) + s + "\n") }
	block := func(head string, inner ...string) {
		line(4, head+" {")
		for _, s := range inner {
			line(7, s)
		}
		line(4, "}")
	}
	line(0, ".:53 {")
	line(4, "errors")
	block("health", "lameduck 5s")
	line(4, "ready")
	block("kubernetes "+domain+" in-addr.arpa ip6.arpa", "pods insecure", "fallthrough in-addr.arpa ip6.arpa", "ttl 30")
	line(4, "prometheus :9153")
	block("forward . /etc/resolv.conf", "max_concurrent 1000")
	block("cache 30", "disable success "+domain, "disable denial "+domain)
	line(4, "loop")
	line(4, "reload")
	line(4, "loadbalance")
	line(0, "}")
	return b.String()
}

func dns(c *kubeadm.Config, _ Inputs) ([]Object, error) {
	watch := []string{"list", "watch"}
	return in(AddonDNS,
		configMap(v1.NamespaceSystem, kubeadm.CoreDNS, map[string]string{"Corefile": Corefile(c.DNSDomain)}, false),
		clusterRole("system:coredns",
			rbacv1.PolicyRule{Verbs: watch, APIGroups: []string{""}, Resources: []string{"endpoints", "services", "pods", "namespaces"}},
			rbacv1.PolicyRule{Verbs: watch, APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}}),
		clusterBinding("system:coredns", "system:coredns", account(v1.NamespaceSystem, kubeadm.CoreDNS)),
		serviceAccount(v1.NamespaceSystem, kubeadm.CoreDNS),
		dnsDeployment(c), dnsService(c)), nil
}

var dnsLabels = map[string]string{"k8s-app": "kube-dns"}

func dnsService(c *kubeadm.Config) *corev1.Service {
	port := func(name string, n int32, p corev1.Protocol) corev1.ServicePort {
		return corev1.ServicePort{Name: name, Port: n, Protocol: p, TargetPort: intstr.FromInt32(n)}
	}
	m := meta(v1.NamespaceSystem, "kube-dns")
	m.ResourceVersion = "0" // as kubeadm's manifest has it; a writer must clear it to create
	m.Annotations = map[string]string{"prometheus.io/port": "9153", "prometheus.io/scrape": "true"}
	m.Labels = map[string]string{"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}
	return &corev1.Service{TypeMeta: v1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: m,
		Spec: corev1.ServiceSpec{ClusterIP: c.ServiceIP(10).String(), Selector: dnsLabels, Ports: []corev1.ServicePort{
			port("dns", dnsPort, corev1.ProtocolUDP), port("dns-tcp", dnsPort, corev1.ProtocolTCP), port("metrics", dnsMetrics, corev1.ProtocolTCP)}}}
}

func dnsDeployment(c *kubeadm.Config) *appsv1.Deployment {
	one, two := intstr.FromInt32(1), int32(2)
	return &appsv1.Deployment{
		TypeMeta:   v1.TypeMeta{APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "Deployment"},
		ObjectMeta: v1.ObjectMeta{Namespace: v1.NamespaceSystem, Name: kubeadm.CoreDNS, Labels: dnsLabels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &two,
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: &one}},
			Selector: &v1.LabelSelector{MatchLabels: dnsLabels},
			Template: corev1.PodTemplateSpec{ObjectMeta: v1.ObjectMeta{Labels: dnsLabels}, Spec: dnsPod(c)},
		},
	}
}

func dnsPod(c *kubeadm.Config) corev1.PodSpec {
	no, yes := false, true
	port := func(name string, n int32, p corev1.Protocol) corev1.ContainerPort {
		return corev1.ContainerPort{Name: name, ContainerPort: n, Protocol: p}
	}
	probe := func(path, port string) corev1.ProbeHandler {
		return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString(port), Scheme: corev1.URISchemeHTTP}}
	}
	spec := corev1.PodSpec{
		PriorityClassName: "system-cluster-critical", ServiceAccountName: kubeadm.CoreDNS, DNSPolicy: corev1.DNSDefault,
		NodeSelector: map[string]string{"kubernetes.io/os": "linux"},
		Affinity: &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 100, PodAffinityTerm: corev1.PodAffinityTerm{
				TopologyKey: "kubernetes.io/hostname",
				LabelSelector: &v1.LabelSelector{MatchExpressions: []v1.LabelSelectorRequirement{
					{Key: "k8s-app", Operator: v1.LabelSelectorOpIn, Values: []string{"kube-dns"}}}}}}}}},
		Tolerations: []corev1.Toleration{
			{Key: "CriticalAddonsOnly", Operator: corev1.TolerationOpExists},
			{Key: kubeadm.ControlPlaneTaint, Effect: corev1.TaintEffectNoSchedule}},
		Containers: []corev1.Container{{
			Name: kubeadm.CoreDNS, Image: c.Image(kubeadm.CoreDNS), ImagePullPolicy: corev1.PullIfNotPresent,
			Args: []string{"-conf", "/etc/coredns/Corefile"},
			Resources: corev1.ResourceRequirements{
				Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("170Mi")},
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("70Mi")}},
			Ports: []corev1.ContainerPort{
				port("dns", dnsPort, corev1.ProtocolUDP), port("dns-tcp", dnsPort, corev1.ProtocolTCP), port("metrics", dnsMetrics, corev1.ProtocolTCP),
				port(livenessName, dnsLiveness, corev1.ProtocolTCP), port(readinessName, dnsReadiness, corev1.ProtocolTCP)},
			LivenessProbe: &corev1.Probe{ProbeHandler: probe("/health", livenessName),
				InitialDelaySeconds: 60, TimeoutSeconds: 5, SuccessThreshold: 1, FailureThreshold: 5},
			ReadinessProbe: &corev1.Probe{ProbeHandler: probe("/ready", readinessName)},
			VolumeMounts:   []corev1.VolumeMount{{Name: "config-volume", MountPath: "/etc/coredns", ReadOnly: true}},
			SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
				Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_BIND_SERVICE"}, Drop: []corev1.Capability{"ALL"}}},
		}},
		Volumes: []corev1.Volume{{Name: "config-volume", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: kubeadm.CoreDNS},
			Items:                []corev1.KeyToPath{{Key: "Corefile", Path: "Corefile"}}}}}},
	}
	if c.Verity(kubeadm.CoreDNS) {
		// Upstream's image names its program as the entry point; the base image cannot.
		spec.Containers[0].Command = []string{"/usr/bin/coredns"}
		fromHost(c, kubeadm.CoreDNS, &spec)
	}
	return spec
}

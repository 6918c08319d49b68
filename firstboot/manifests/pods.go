// SPDX-License-Identifier: Apache-2.0

// Package manifests produces the files the kubelet of a control plane works from: the four
// static pods as typed objects, serialised as kubeadm v1.36 serialises them, and the kubelet's
// own configuration files. With delivery verity a pod differs from kubeadm's in its image,
// which then is the base image of the node, and in one read-only mount of the host's /usr.
package manifests

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/manifests/verity"
)

// systemNodeCritical is the priority behind the class of that name. A static pod must state
// it, for no admission plugin sees the manifest.
const systemNodeCritical int32 = 2000001000

// part is what distinguishes one static pod from another.
type part struct {
	name        string
	command     []string
	annotations map[string]string
	requests    corev1.ResourceList
	// host, scheme and port are where the kubelet probes; an empty path is no probe.
	host                         string
	scheme                       corev1.URIScheme
	port                         int32
	liveness, readiness, startup string
	mounts                       []mount
}

// mount is a host path under a volume name, mounted at the same path.
type mount struct {
	name, path string
	kind       corev1.HostPathType
	writable   bool
}

const probePort = "probe-port"

// StaticPods returns etcd, kube-apiserver, kube-controller-manager and kube-scheduler.
func StaticPods(c *kubeadm.Config) []*corev1.Pod {
	parts := []part{etcd(c), apiServer(c), controllerManager(c), scheduler(c)}
	pods := make([]*corev1.Pod, len(parts))
	for i, p := range parts {
		pods[i] = p.pod(c)
	}
	return pods
}

// StaticPodFiles renders StaticPods as files of the manifest directory.
func StaticPodFiles(c *kubeadm.Config) ([]kubeadm.File, error) {
	var files []kubeadm.File
	for _, pod := range StaticPods(c) {
		f, err := File(pod)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// File renders a static pod as its manifest.
func File(pod *corev1.Pod) (kubeadm.File, error) {
	data, err := yaml.Marshal(pod)
	if err != nil {
		return kubeadm.File{}, fmt.Errorf("static pod %s: %w", pod.Name, err)
	}
	return kubeadm.File{Path: path.Join(kubeadm.ManifestsDir, pod.Name+".yaml"), Mode: 0o600, Data: data}, nil
}

func cpu(q string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(q)}
}

func etcd(c *kubeadm.Config) part {
	requests := cpu(c.EtcdCPU)
	requests[corev1.ResourceMemory] = resource.MustParse("100Mi")
	return part{
		name: kubeadm.Etcd, command: command("etcd", etcdFlags(c), EtcdArgs(c)), requests: requests,
		annotations: map[string]string{kubeadm.EtcdURLAnnotation: kubeadm.URL("https", c.Address.String(), kubeadm.EtcdClientPort)},
		host:        c.Loopback(), scheme: corev1.URISchemeHTTP, port: kubeadm.EtcdMetricsPort,
		liveness: "/livez", readiness: "/readyz", startup: "/readyz",
		mounts: []mount{
			{"etcd-data", kubeadm.EtcdDataDir, corev1.HostPathDirectoryOrCreate, true},
			{"etcd-certs", pki("etcd"), corev1.HostPathDirectoryOrCreate, true},
		},
	}
}

func apiServer(c *kubeadm.Config) part {
	return part{
		name: kubeadm.APIServer, command: command("kube-apiserver", apiServerFlags(c), c.Args[kubeadm.APIServer]), requests: cpu("250m"),
		annotations: map[string]string{kubeadm.APIServerAnnotation: c.LocalEndpoint()},
		host:        c.Address.String(), scheme: corev1.URISchemeHTTPS, port: c.APIPort,
		liveness: "/livez", readiness: "/readyz", startup: "/livez",
		mounts: append(certMounts(c, kubeadm.APIServer),
			mount{"k8s-certs", kubeadm.PKIDir, corev1.HostPathDirectoryOrCreate, false}),
	}
}

func controllerManager(c *kubeadm.Config) part {
	return part{
		name: kubeadm.ControllerManager, command: command("kube-controller-manager", controllerManagerFlags(c), c.Args[kubeadm.ControllerManager]), requests: cpu("200m"),
		host: c.Loopback(), scheme: corev1.URISchemeHTTPS, port: kubeadm.ControllerManagerPort,
		liveness: "/healthz", startup: "/healthz",
		mounts: append(certMounts(c, kubeadm.ControllerManager),
			mount{"k8s-certs", kubeadm.PKIDir, corev1.HostPathDirectoryOrCreate, false},
			mount{"kubeconfig", controllerManagerConf, corev1.HostPathFileOrCreate, false}),
	}
}

func scheduler(c *kubeadm.Config) part {
	return part{
		name: kubeadm.Scheduler, command: command("kube-scheduler", schedulerFlags(c), c.Args[kubeadm.Scheduler]), requests: cpu("100m"),
		host: c.Loopback(), scheme: corev1.URISchemeHTTPS, port: kubeadm.SchedulerPort,
		liveness: "/livez", readiness: "/readyz", startup: "/livez",
		mounts: []mount{{"kubeconfig", schedulerConf, corev1.HostPathFileOrCreate, false}},
	}
}

// HostCADirs are the places besides /etc/ssl/certs where distributions keep authorities. Those
// that exist on the host are mounted too.
var HostCADirs = []string{
	"/etc/pki/ca-trust", "/etc/pki/tls/certs", "/etc/ca-certificates",
	"/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
}

func certMounts(c *kubeadm.Config, component string) []mount {
	mounts := []mount{{"ca-certs", "/etc/ssl/certs", corev1.HostPathDirectoryOrCreate, false}}
	for _, dir := range c.ExtraCADirs {
		if c.Verity(component) && strings.HasPrefix(dir, "/usr/") {
			continue // the host's /usr is mounted as a whole
		}
		name := strings.ReplaceAll(strings.Trim(dir, "/"), "/", "-")
		mounts = append(mounts, mount{name, dir, corev1.HostPathDirectoryOrCreate, false})
	}
	return mounts
}

func (p part) probe(path string, delay, timeout, period, failures int32) *corev1.Probe {
	if path == "" {
		return nil
	}
	return &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Host: p.host, Path: path, Port: intstr.FromString(probePort), Scheme: p.scheme}},
		InitialDelaySeconds: delay, TimeoutSeconds: timeout, PeriodSeconds: period, FailureThreshold: failures,
	}
}

func (p part) pod(c *kubeadm.Config) *corev1.Pod {
	priority := systemNodeCritical
	container := corev1.Container{
		Name: p.name, Command: p.command,
		Image: c.Image(p.name), ImagePullPolicy: corev1.PullIfNotPresent,
		Resources:      corev1.ResourceRequirements{Requests: p.requests},
		Ports:          []corev1.ContainerPort{{Name: probePort, ContainerPort: p.port, Protocol: corev1.ProtocolTCP}},
		LivenessProbe:  p.probe(p.liveness, 10, 15, 10, 8),
		ReadinessProbe: p.probe(p.readiness, 0, 15, int32(c.ReadinessProbePeriod/time.Second), 3),
		StartupProbe:   p.probe(p.startup, 10, 15, 10, startupFailures(c.ControlPlaneComponentHealthCheck)),
	}
	spec := corev1.PodSpec{
		HostNetwork: true, Priority: &priority, PriorityClassName: "system-node-critical",
		SecurityContext: &corev1.PodSecurityContext{
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
	}
	for _, m := range p.mounts {
		container.VolumeMounts = append(container.VolumeMounts,
			corev1.VolumeMount{Name: m.name, MountPath: m.path, ReadOnly: !m.writable})
		spec.Volumes = append(spec.Volumes, corev1.Volume{Name: m.name, VolumeSource: corev1.VolumeSource{
			HostPath: &corev1.HostPathVolumeSource{Path: m.path, Type: &m.kind}}})
	}
	sortVolumes(container.VolumeMounts, spec.Volumes)
	spec.Containers = []corev1.Container{container}
	if c.Verity(p.name) {
		verity.Use(&spec, verity.Ref(p.name, c.KubernetesVersion))
	}
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Name: p.name, Namespace: metav1.NamespaceSystem, Annotations: p.annotations,
			Labels: map[string]string{"component": p.name, "tier": "control-plane"},
		},
		Spec: spec,
	}
}

// sortVolumes orders by name, except that etcd's mounts keep the order kubeadm gives them:
// it sorts volumes always, mounts only where host directories were merged in.
func sortVolumes(mounts []corev1.VolumeMount, volumes []corev1.Volume) {
	slices.SortFunc(volumes, func(a, b corev1.Volume) int { return strings.Compare(a.Name, b.Name) })
	if len(mounts) > 0 && mounts[0].Name == "etcd-data" {
		return
	}
	slices.SortFunc(mounts, func(a, b corev1.VolumeMount) int { return strings.Compare(a.Name, b.Name) })
}

// startupFailures is how many ten-second periods make up the wait for a component.
func startupFailures(wait time.Duration) int32 {
	const period = 10 * time.Second
	return int32((wait + period - 1) / period)
}

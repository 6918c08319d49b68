// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/baseimage"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

var manifestChecks = []Check{
	{ID: "D11", Title: "static pods and their flags", run: checkFlags},
	{ID: "D12", Title: "etcd's initial cluster and the pods' annotations", run: checkEtcdCluster},
	{ID: "D13", Title: "probes and their ports", run: checkProbes},
	{ID: "D14", Title: "what else a static pod says", run: checkPods},
}

// expectedFlags holds, for one component per block, every flag but those of etcd's initial
// cluster. $IP, $LO, $NODE, $POD, $SVC, $DOMAIN, $PORT and $CLUSTER stand for the configuration.
const expectedFlags = `
kube-apiserver
advertise-address=$IP
allow-privileged=true
authorization-mode=Node,RBAC
client-ca-file=/etc/kubernetes/pki/ca.crt
enable-admission-plugins=NodeRestriction
enable-bootstrap-token-auth=true
etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt
etcd-certfile=/etc/kubernetes/pki/apiserver-etcd-client.crt
etcd-keyfile=/etc/kubernetes/pki/apiserver-etcd-client.key
etcd-servers=https://$LO:2379
kubelet-client-certificate=/etc/kubernetes/pki/apiserver-kubelet-client.crt
kubelet-client-key=/etc/kubernetes/pki/apiserver-kubelet-client.key
kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname
proxy-client-cert-file=/etc/kubernetes/pki/front-proxy-client.crt
proxy-client-key-file=/etc/kubernetes/pki/front-proxy-client.key
requestheader-allowed-names=front-proxy-client
requestheader-client-ca-file=/etc/kubernetes/pki/front-proxy-ca.crt
requestheader-extra-headers-prefix=X-Remote-Extra-
requestheader-group-headers=X-Remote-Group
requestheader-username-headers=X-Remote-User
secure-port=$PORT
service-account-issuer=https://kubernetes.default.svc.$DOMAIN
service-account-key-file=/etc/kubernetes/pki/sa.pub
service-account-signing-key-file=/etc/kubernetes/pki/sa.key
service-cluster-ip-range=$SVC
tls-cert-file=/etc/kubernetes/pki/apiserver.crt
tls-private-key-file=/etc/kubernetes/pki/apiserver.key

kube-controller-manager
allocate-node-cidrs=true
authentication-kubeconfig=/etc/kubernetes/controller-manager.conf
authorization-kubeconfig=/etc/kubernetes/controller-manager.conf
bind-address=$LO
client-ca-file=/etc/kubernetes/pki/ca.crt
cluster-cidr=$POD
cluster-name=$CLUSTER
cluster-signing-cert-file=/etc/kubernetes/pki/ca.crt
cluster-signing-key-file=/etc/kubernetes/pki/ca.key
controllers=*,bootstrapsigner,tokencleaner
kubeconfig=/etc/kubernetes/controller-manager.conf
leader-elect=true
requestheader-client-ca-file=/etc/kubernetes/pki/front-proxy-ca.crt
root-ca-file=/etc/kubernetes/pki/ca.crt
service-account-private-key-file=/etc/kubernetes/pki/sa.key
service-cluster-ip-range=$SVC
use-service-account-credentials=true

kube-scheduler
authentication-kubeconfig=/etc/kubernetes/scheduler.conf
authorization-kubeconfig=/etc/kubernetes/scheduler.conf
bind-address=$LO
kubeconfig=/etc/kubernetes/scheduler.conf
leader-elect=true

etcd
advertise-client-urls=https://$IP:2379
cert-file=/etc/kubernetes/pki/etcd/server.crt
client-cert-auth=true
data-dir=/var/lib/etcd
feature-gates=InitialCorruptCheck=true
initial-advertise-peer-urls=https://$IP:2380
key-file=/etc/kubernetes/pki/etcd/server.key
listen-client-urls=https://$LO:2379,https://$IP:2379
listen-metrics-urls=http://$LO:2381
listen-peer-urls=https://$IP:2380
name=$NODE
peer-cert-file=/etc/kubernetes/pki/etcd/peer.crt
peer-client-cert-auth=true
peer-key-file=/etc/kubernetes/pki/etcd/peer.key
peer-trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt
snapshot-count=10000
trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt
watch-progress-notify-interval=5s
`

// wantFlags fills expectedFlags in and adds what the configuration asks for on top.
func (e *Env) wantFlags() map[string]map[string]string {
	c := e.Config
	host := func(s string) string {
		if strings.Contains(s, ":") {
			return "[" + s + "]"
		}
		return s
	}
	out := map[string]map[string]string{}
	for _, block := range strings.Split(strings.TrimSpace(expectedFlags), "\n\n") {
		lines := strings.Split(block, "\n")
		flags := map[string]string{}
		for _, l := range lines[1:] {
			name, value, _ := strings.Cut(l, "=")
			ip, lo := c.Address.String(), c.Loopback()
			if strings.Contains(value, "://") {
				ip, lo = host(ip), host(lo)
			}
			flags[name] = strings.NewReplacer("$IP", ip, "$LO", lo, "$NODE", c.NodeName, "$PORT", fmt.Sprint(c.APIPort),
				"$POD", c.PodSubnet.String(), "$SVC", c.ServiceSubnet.String(), "$DOMAIN", c.DNSDomain, "$CLUSTER", c.ClusterName).Replace(value)
		}
		out[lines[0]] = flags
	}
	if c.ExternalCA {
		out[kubeadm.ControllerManager]["cluster-signing-cert-file"] = ""
		out[kubeadm.ControllerManager]["cluster-signing-key-file"] = ""
	}
	if c.EtcdHeartbeat > 0 {
		out[kubeadm.Etcd]["heartbeat-interval"] = fmt.Sprint(c.EtcdHeartbeat.Milliseconds())
	}
	if c.EtcdElection > 0 {
		out[kubeadm.Etcd]["election-timeout"] = fmt.Sprint(c.EtcdElection.Milliseconds())
	}
	maps.Copy(out[kubeadm.APIServer], c.APIServerArgs)
	maps.Copy(out[kubeadm.Etcd], c.EtcdArgs)
	return out
}

var staticPods = []string{kubeadm.Etcd, kubeadm.APIServer, kubeadm.ControllerManager, kubeadm.Scheduler}

// pod reads a manifest that has exactly one container.
func (e *Env) pod(name string) (*corev1.Pod, error) {
	path := kubeadm.ManifestsDir + "/" + name + ".yaml"
	text, err := os.ReadFile(e.path(path))
	if err != nil {
		return nil, err
	}
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict(text, pod); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(pod.Spec.Containers) != 1 {
		return nil, fmt.Errorf("%s: %d containers, want 1", path, len(pod.Spec.Containers))
	}
	return pod, nil
}

// flags splits a container's command into program and flags.
func flags(c corev1.Container) (program string, out map[string]string) {
	out = map[string]string{}
	for i, a := range c.Command {
		if i == 0 {
			program = a
			continue
		}
		name, value, _ := strings.Cut(strings.TrimPrefix(a, "--"), "=")
		out[name] = value
	}
	return program, out
}

func checkFlags(_ context.Context, e *Env) error {
	var p problems
	found, err := filepath.Glob(e.path(kubeadm.ManifestsDir + "/*"))
	p.add(err)
	for _, f := range found {
		name := strings.TrimSuffix(filepath.Base(f), ".yaml")
		if name != "kube-vip" && !slices.Contains(staticPods, name) {
			p.addf("%s/%s should not be there", kubeadm.ManifestsDir, filepath.Base(f))
		}
	}
	want := e.wantFlags()
	for _, name := range staticPods {
		pod, err := e.pod(name)
		if p.add(err); err != nil {
			continue
		}
		program, got := flags(pod.Spec.Containers[0])
		equal(&p, name+" program", program, name)
		for _, f := range slices.Sorted(maps.Keys(want[name])) {
			if v, ok := got[f]; !ok || v != want[name][f] {
				p.addf("%s: --%s is %q, want %q", name, f, v, want[name][f])
			}
		}
		for _, f := range slices.Sorted(maps.Keys(got)) {
			if _, ok := want[name][f]; !ok && !strings.HasPrefix(f, "initial-cluster") {
				p.addf("%s: --%s=%s should not be there", name, f, got[f])
			}
		}
	}
	return p.err()
}

func checkEtcdCluster(_ context.Context, e *Env) error {
	var p problems
	pod, err := e.pod(kubeadm.Etcd)
	if err != nil {
		return err
	}
	_, f := flags(pod.Spec.Containers[0])
	self := e.Config.NodeName + "=" + kubeadm.URL("https", e.Config.Address.String(), 2380)
	members := strings.Split(f["initial-cluster"], ",")
	if !slices.Contains(members, self) {
		p.addf("etcd: --initial-cluster=%s does not name this member, %s", f["initial-cluster"], self)
	}
	if e.Config.EtcdExisting {
		equal(&p, "etcd --initial-cluster-state", f["initial-cluster-state"], "existing")
		if len(members) < 2 {
			p.addf("etcd: a member that joined names no other member")
		}
	} else {
		equal(&p, "etcd members", len(members), max(1, len(e.Config.EtcdMembers)))
		if s, ok := f["initial-cluster-state"]; ok && s != "new" {
			p.addf("etcd: --initial-cluster-state=%s on a member that started the cluster", s)
		}
	}
	equal(&p, "etcd annotations", pod.Annotations, map[string]string{
		"kubeadm.kubernetes.io/etcd.advertise-client-urls": kubeadm.URL("https", e.Config.Address.String(), 2379)})
	if pod, err = e.pod(kubeadm.APIServer); err != nil {
		p.add(err)
		return p.err()
	}
	equal(&p, "kube-apiserver annotations", pod.Annotations, map[string]string{
		"kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint": e.Config.LocalEndpoint()})
	return p.err()
}

func checkProbes(_ context.Context, e *Env) error {
	var p problems
	describe := func(x *corev1.Probe) string {
		if x == nil || x.HTTPGet == nil {
			return "none"
		}
		return fmt.Sprint(x.HTTPGet.Scheme, " ", x.HTTPGet.Host, x.HTTPGet.Path, " ", x.HTTPGet.Port.String(), " ",
			x.InitialDelaySeconds, " ", x.TimeoutSeconds, " ", x.FailureThreshold, " ", x.PeriodSeconds)
	}
	ip, lo := e.Config.Address.String(), e.Config.Loopback()
	startup := (e.Config.ControlPlaneComponentHealthCheck.Seconds() + 9.999) / 10
	for _, w := range []struct {
		name, scheme, host, live, ready, start string
		port                                   int32
	}{
		{kubeadm.APIServer, "HTTPS", ip, "/livez", "/readyz", "/livez", e.Config.APIPort},
		{kubeadm.ControllerManager, "HTTPS", lo, "/healthz", "", "/healthz", 10257},
		{kubeadm.Scheduler, "HTTPS", lo, "/livez", "/readyz", "/livez", 10259},
		{kubeadm.Etcd, "HTTP", lo, "/livez", "/readyz", "/readyz", 2381},
	} {
		pod, err := e.pod(w.name)
		if p.add(err); err != nil {
			continue
		}
		c := pod.Spec.Containers[0]
		want := func(path string, numbers string) string {
			if path == "" {
				return "none"
			}
			return w.scheme + " " + w.host + path + " probe-port " + numbers
		}
		equal(&p, w.name+" liveness probe", describe(c.LivenessProbe), want(w.live, "10 15 8 10"))
		equal(&p, w.name+" readiness probe", describe(c.ReadinessProbe), want(w.ready, "0 15 3 1"))
		equal(&p, w.name+" startup probe", describe(c.StartupProbe), want(w.start, fmt.Sprintf("10 15 %d 10", int(startup))))
		equal(&p, w.name+" ports", c.Ports, []corev1.ContainerPort{{Name: "probe-port", ContainerPort: w.port, Protocol: "TCP"}})
	}
	return p.err()
}

// image is the image reference and pull policy that a component should have.
func (e *Env) image(check, component string) (ref, policy string) {
	ref, policy = e.Config.Image(component), "IfNotPresent"
	if e.exempt(check, component, "image") {
		ref = baseimage.Ref
	}
	if e.exempt(check, component, "imagePullPolicy") {
		policy = "Never"
	}
	return ref, policy
}

// volumes describes hostPath volumes as "name path type", sorted.
func volumes(spec corev1.PodSpec) []string {
	var out []string
	for _, v := range spec.Volumes {
		if h := v.HostPath; h != nil {
			kind := ""
			if h.Type != nil {
				kind = string(*h.Type)
			}
			out = append(out, strings.TrimSpace(v.Name+" "+h.Path+" "+kind))
		}
	}
	slices.Sort(out)
	return out
}

const hostUsr = "host-usr /usr Directory"

func checkPods(_ context.Context, e *Env) error {
	var p problems
	const certs, keys = "ca-certs /etc/ssl/certs DirectoryOrCreate", "k8s-certs /etc/kubernetes/pki DirectoryOrCreate"
	for _, w := range []struct {
		name, cpu, memory string
		volumes           []string
	}{
		{kubeadm.Etcd, "100m", "100Mi", []string{"etcd-certs /etc/kubernetes/pki/etcd DirectoryOrCreate", "etcd-data /var/lib/etcd DirectoryOrCreate"}},
		{kubeadm.APIServer, "250m", "0", []string{certs, keys}},
		{kubeadm.ControllerManager, "200m", "0", []string{certs, keys, "kubeconfig /etc/kubernetes/controller-manager.conf FileOrCreate"}},
		{kubeadm.Scheduler, "100m", "0", []string{"kubeconfig /etc/kubernetes/scheduler.conf FileOrCreate"}},
	} {
		pod, err := e.pod(w.name)
		if p.add(err); err != nil {
			continue
		}
		s, c := pod.Spec, pod.Spec.Containers[0]
		equal(&p, w.name+" labels", pod.Labels, map[string]string{"component": w.name, "tier": "control-plane"})
		equal(&p, w.name+" name", pod.Namespace+"/"+pod.Name, "kube-system/"+w.name)
		equal(&p, w.name+" uses the host's network", s.HostNetwork, true)
		equal(&p, w.name+" priority class", s.PriorityClassName, "system-node-critical")
		if s.Priority == nil || *s.Priority != 2000001000 {
			p.addf("%s has another priority than 2000001000", w.name)
		}
		if s.SecurityContext == nil || s.SecurityContext.SeccompProfile == nil || s.SecurityContext.SeccompProfile.Type != "RuntimeDefault" {
			p.addf("%s does not use the runtime's seccomp profile", w.name)
		}
		equal(&p, w.name+" CPU request", c.Resources.Requests.Cpu().String(), w.cpu)
		equal(&p, w.name+" memory request", c.Resources.Requests.Memory().String(), w.memory)
		ref, policy := e.image("D14", w.name)
		equal(&p, w.name+" image", c.Image, ref)
		equal(&p, w.name+" pull policy", string(c.ImagePullPolicy), policy)
		want := w.volumes
		for _, dir := range e.Config.ExtraCADirs {
			if w.name != kubeadm.APIServer && w.name != kubeadm.ControllerManager ||
				e.Config.Delivery.For(w.name) == node.DeliveryVerity && strings.HasPrefix(dir, "/usr/") {
				continue
			}
			want = append(want, strings.ReplaceAll(dir[1:], "/", "-")+" "+dir+" DirectoryOrCreate")
		}
		if e.exempt("D14", w.name, "volume host-usr") {
			want = append(want, hostUsr)
			for _, m := range c.VolumeMounts {
				if m.MountPath == "/usr" && !m.ReadOnly {
					p.addf("%s mounts the host's /usr writable", w.name)
				}
			}
		}
		slices.Sort(want)
		equal(&p, w.name+" volumes", volumes(s), want)
	}
	return p.err()
}

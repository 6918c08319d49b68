// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
)

var addonChecks = []Check{
	{ID: "D24", Title: "kube-proxy", NeedsAPI: true, run: checkProxy},
	{ID: "D25", Title: "CoreDNS", NeedsAPI: true, run: checkDNS},
}

func checkProxy(ctx context.Context, e *Env) error {
	var p problems
	ds := &appsv1.DaemonSet{ObjectMeta: named(system, "kube-proxy")}
	if err := e.API.Get(ctx, ds); err != nil {
		p.add(err)
	} else if s := ds.Spec.Template.Spec; len(s.Containers) != 1 {
		p.addf("DaemonSet kube-proxy has %d containers, want 1", len(s.Containers))
	} else {
		c := s.Containers[0]
		ref, policy := e.image("D24", kubeadm.Proxy)
		equal(&p, "kube-proxy image", c.Image+" "+string(c.ImagePullPolicy), ref+" "+policy)
		equal(&p, "kube-proxy command", c.Command, []string{"/usr/local/bin/kube-proxy", "--config=/var/lib/kube-proxy/config.conf", "--hostname-override=$(NODE_NAME)"})
		equal(&p, "kube-proxy uses the host's network", s.HostNetwork, true)
		equal(&p, "kube-proxy is privileged", c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged, true)
		equal(&p, "kube-proxy priority class and account", s.PriorityClassName+" "+s.ServiceAccountName, "system-node-critical kube-proxy")
		equal(&p, "kube-proxy tolerates", s.Tolerations, []corev1.Toleration{{Operator: "Exists"}})
		want := []string{"xtables-lock /run/xtables.lock FileOrCreate"}
		if !e.exempt("D24", kubeadm.Proxy, "volume lib-modules") {
			want = append(want, "lib-modules /lib/modules")
		}
		if e.exempt("D24", kubeadm.Proxy, "volume host-usr") {
			want = append(want, hostUsr)
		}
		slices.Sort(want)
		equal(&p, "kube-proxy volumes", volumes(s), want)
	}
	cm, err := e.configMap(ctx, system, "kube-proxy")
	if p.add(err); err == nil {
		cfg, kubeconfig := map[string]any{}, clientcmd.Config{}
		p.add(yaml.Unmarshal([]byte(cm.Data["config.conf"]), &cfg))
		p.add(yaml.Unmarshal([]byte(cm.Data["kubeconfig.conf"]), &kubeconfig))
		equal(&p, "kube-proxy clusterCIDR", fmt.Sprint(cfg["clusterCIDR"]), e.Config.PodSubnet.String())
		equal(&p, "kube-proxy kubeconfig", fmt.Sprint(at(cfg, "clientConnection.kubeconfig")), "/var/lib/kube-proxy/kubeconfig.conf")
		if len(kubeconfig.Clusters) != 1 || kubeconfig.Clusters[0].Cluster.Server != e.Config.EndpointURL() {
			p.addf("kube-proxy does not point at %s", e.Config.EndpointURL())
		}
	}
	e.readRole(ctx, &p, system, "kube-proxy", "configmaps", "kube-proxy", boot)
	p.add(e.API.Get(ctx, &corev1.ServiceAccount{ObjectMeta: named(system, "kube-proxy")}))
	return p.err()
}

func checkDNS(ctx context.Context, e *Env) error {
	var p problems
	d := &appsv1.Deployment{ObjectMeta: named(system, "coredns")}
	if err := e.API.Get(ctx, d); err != nil {
		p.add(err)
	} else if s := d.Spec.Template.Spec; len(s.Containers) != 1 || d.Spec.Replicas == nil || d.Spec.Selector == nil {
		p.addf("Deployment coredns is not one container with replicas and a selector")
	} else {
		equal(&p, "coredns replicas", *d.Spec.Replicas, 2)
		equal(&p, "coredns selector", d.Spec.Selector.MatchLabels, map[string]string{"k8s-app": "kube-dns"})
		equal(&p, "coredns priority class and account", s.PriorityClassName+" "+s.ServiceAccountName, "system-cluster-critical coredns")
		ref, policy := e.image("D25", kubeadm.CoreDNS)
		equal(&p, "coredns image", s.Containers[0].Image+" "+string(s.Containers[0].ImagePullPolicy), ref+" "+policy)
		equal(&p, "coredns arguments", s.Containers[0].Args, []string{"-conf", "/etc/coredns/Corefile"})
		if len(s.Containers[0].Command) > 0 && !e.exempt("D25", kubeadm.CoreDNS, "command") {
			p.addf("coredns has a command of its own")
		}
	}
	svc := &corev1.Service{ObjectMeta: named(system, "kube-dns")}
	if err := e.API.Get(ctx, svc); err != nil {
		p.add(err)
	} else {
		var ports []string
		for _, x := range svc.Spec.Ports {
			ports = append(ports, fmt.Sprintf("%s %d/%s", x.Name, x.Port, x.Protocol))
		}
		slices.Sort(ports)
		equal(&p, "kube-dns address", svc.Spec.ClusterIP, e.Config.ServiceIP(10).String())
		equal(&p, "kube-dns ports", ports, []string{"dns 53/UDP", "dns-tcp 53/TCP", "metrics 9153/TCP"})
	}
	cm, err := e.configMap(ctx, system, "coredns")
	if p.add(err); err == nil {
		for _, want := range []string{"kubernetes " + e.Config.DNSDomain + " in-addr.arpa ip6.arpa", "forward . /etc/resolv.conf"} {
			if !strings.Contains(cm.Data["Corefile"], want) {
				p.addf("the Corefile lacks %q", want)
			}
		}
	}
	e.clusterBinding(ctx, &p, "system:coredns", "system:coredns", "ServiceAccount kube-system/coredns")
	return p.err()
}

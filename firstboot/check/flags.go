// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"maps"
	"strings"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
)

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
	for component, args := range c.Args {
		maps.Copy(out[component], args)
	}
	return out
}

// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// pki returns the path of a file in the PKI directory.
func pki(name string) string { return kubeadm.PKIDir + "/" + name }

// command renders a program and its flags: sorted, each as --name=value. Flags in extra
// replace those of the same name.
func command(program string, flags, extra map[string]string) []string {
	all := maps.Clone(flags)
	maps.Copy(all, extra)
	out := []string{program}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, "--"+name+"="+all[name])
	}
	return out
}

func apiServerFlags(c *kubeadm.Config) map[string]string {
	return map[string]string{
		"advertise-address":                  c.Address.String(),
		"allow-privileged":                   "true",
		"authorization-mode":                 "Node,RBAC",
		"client-ca-file":                     pki("ca.crt"),
		"enable-admission-plugins":           "NodeRestriction",
		"enable-bootstrap-token-auth":        "true",
		"etcd-cafile":                        pki("etcd/ca.crt"),
		"etcd-certfile":                      pki("apiserver-etcd-client.crt"),
		"etcd-keyfile":                       pki("apiserver-etcd-client.key"),
		"etcd-servers":                       kubeadm.URL("https", c.Loopback(), kubeadm.EtcdClientPort),
		"kubelet-client-certificate":         pki("apiserver-kubelet-client.crt"),
		"kubelet-client-key":                 pki("apiserver-kubelet-client.key"),
		"kubelet-preferred-address-types":    "InternalIP,ExternalIP,Hostname",
		"proxy-client-cert-file":             pki("front-proxy-client.crt"),
		"proxy-client-key-file":              pki("front-proxy-client.key"),
		"requestheader-allowed-names":        "front-proxy-client",
		"requestheader-client-ca-file":       pki("front-proxy-ca.crt"),
		"requestheader-extra-headers-prefix": "X-Remote-Extra-",
		"requestheader-group-headers":        "X-Remote-Group",
		"requestheader-username-headers":     "X-Remote-User",
		"secure-port":                        strconv.Itoa(int(c.APIPort)),
		"service-account-issuer":             "https://kubernetes.default.svc." + c.DNSDomain,
		"service-account-key-file":           pki("sa.pub"),
		"service-account-signing-key-file":   pki("sa.key"),
		"service-cluster-ip-range":           c.ServiceSubnet.String(),
		"tls-cert-file":                      pki("apiserver.crt"),
		"tls-private-key-file":               pki("apiserver.key"),
	}
}

const (
	controllerManagerConf = kubeadm.Dir + "/controller-manager.conf"
	schedulerConf         = kubeadm.Dir + "/scheduler.conf"
)

func controllerManagerFlags(c *kubeadm.Config) map[string]string {
	f := map[string]string{
		"authentication-kubeconfig":        controllerManagerConf,
		"authorization-kubeconfig":         controllerManagerConf,
		"bind-address":                     c.Loopback(),
		"client-ca-file":                   pki("ca.crt"),
		"cluster-name":                     c.ClusterName,
		"cluster-signing-cert-file":        pki("ca.crt"),
		"cluster-signing-key-file":         pki("ca.key"),
		"controllers":                      "*,bootstrapsigner,tokencleaner",
		"kubeconfig":                       controllerManagerConf,
		"leader-elect":                     "true",
		"requestheader-client-ca-file":     pki("front-proxy-ca.crt"),
		"root-ca-file":                     pki("ca.crt"),
		"service-account-private-key-file": pki("sa.key"),
		"use-service-account-credentials":  "true",
	}
	if c.ExternalCA {
		f["cluster-signing-cert-file"], f["cluster-signing-key-file"] = "", ""
	}
	if c.PodSubnet.IsValid() {
		f["allocate-node-cidrs"] = "true"
		f["cluster-cidr"] = c.PodSubnet.String()
		f["service-cluster-ip-range"] = c.ServiceSubnet.String()
	}
	return f
}

func schedulerFlags(c *kubeadm.Config) map[string]string {
	return map[string]string{
		"authentication-kubeconfig": schedulerConf,
		"authorization-kubeconfig":  schedulerConf,
		"bind-address":              c.Loopback(),
		"kubeconfig":                schedulerConf,
		"leader-elect":              "true",
	}
}

func etcdFlags(c *kubeadm.Config) map[string]string {
	ip := c.Address.String()
	client := kubeadm.URL("https", ip, kubeadm.EtcdClientPort)
	peer := kubeadm.URL("https", ip, kubeadm.EtcdPeerPort)
	f := map[string]string{
		"advertise-client-urls":          client,
		"cert-file":                      pki("etcd/server.crt"),
		"client-cert-auth":               "true",
		"data-dir":                       kubeadm.EtcdDataDir,
		"feature-gates":                  "InitialCorruptCheck=true",
		"initial-advertise-peer-urls":    peer,
		"initial-cluster":                initialCluster(c),
		"key-file":                       pki("etcd/server.key"),
		"listen-client-urls":             kubeadm.URL("https", c.Loopback(), kubeadm.EtcdClientPort) + "," + client,
		"listen-metrics-urls":            kubeadm.URL("http", c.Loopback(), kubeadm.EtcdMetricsPort),
		"listen-peer-urls":               peer,
		"name":                           c.NodeName,
		"peer-cert-file":                 pki("etcd/peer.crt"),
		"peer-client-cert-auth":          "true",
		"peer-key-file":                  pki("etcd/peer.key"),
		"peer-trusted-ca-file":           pki("etcd/ca.crt"),
		"snapshot-count":                 "10000",
		"trusted-ca-file":                pki("etcd/ca.crt"),
		"watch-progress-notify-interval": "5s",
	}
	if c.EtcdExisting {
		f["initial-cluster-state"] = "existing"
	}
	return f
}

// EtcdArgs are the flags of etcd that the cluster's configuration asks for beyond those of
// every member. The members of one cluster have to agree on its intervals.
func EtcdArgs(c *kubeadm.Config) map[string]string {
	f := map[string]string{}
	if c.EtcdHeartbeat > 0 {
		f["heartbeat-interval"] = milliseconds(c.EtcdHeartbeat)
	}
	if c.EtcdElection > 0 {
		f["election-timeout"] = milliseconds(c.EtcdElection)
	}
	maps.Copy(f, c.Args[kubeadm.Etcd])
	return f
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// initialCluster lists the members in the given order, this machine included.
func initialCluster(c *kubeadm.Config) string {
	members := c.EtcdMembers
	if len(members) == 0 {
		members = []node.Peer{{Name: c.NodeName, Address: c.Address.String()}}
	}
	var out []string
	for _, m := range members {
		out = append(out, fmt.Sprintf("%s=%s", m.Name, kubeadm.URL("https", m.Address, kubeadm.EtcdPeerPort)))
	}
	return strings.Join(out, ",")
}

// SPDX-License-Identifier: Apache-2.0

package addons

import (
	"maps"
	"slices"
	"time"

	v1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/manifests"
)

func admins(*kubeadm.Config, Inputs) ([]Object, error) {
	return in(Admins, clusterBinding("kubeadm:cluster-admins", "cluster-admin", group(kubeadm.ClusterAdminsGroup))), nil
}

// ClusterConfiguration is the part of kubeadm.k8s.io/v1beta4 that kubeadm-config carries and
// that later kubeadm commands read.
type ClusterConfiguration struct {
	APIServer                   Component  `json:"apiServer"`
	APIVersion                  string     `json:"apiVersion"`
	CACertificateValidityPeriod string     `json:"caCertificateValidityPeriod"`
	CertificateValidityPeriod   string     `json:"certificateValidityPeriod"`
	CertificatesDir             string     `json:"certificatesDir"`
	ClusterName                 string     `json:"clusterName"`
	ControlPlaneEndpoint        string     `json:"controlPlaneEndpoint,omitempty"`
	ControllerManager           Component  `json:"controllerManager"`
	DNS                         struct{}   `json:"dns"`
	EncryptionAlgorithm         string     `json:"encryptionAlgorithm"`
	Etcd                        EtcdConfig `json:"etcd"`
	ImageRepository             string     `json:"imageRepository"`
	Kind                        string     `json:"kind"`
	KubernetesVersion           string     `json:"kubernetesVersion"`
	Networking                  Networking `json:"networking"`
	Proxy                       struct{}   `json:"proxy"`
	Scheduler                   Component  `json:"scheduler"`
}

// Component is what a user changed about a control-plane component.
type Component struct {
	CertSANs  []string `json:"certSANs,omitempty"`
	ExtraArgs []Arg    `json:"extraArgs,omitempty"`
}

// Arg is one flag, without its dashes.
type Arg struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// EtcdConfig describes the stacked etcd.
type EtcdConfig struct {
	Local struct {
		DataDir        string   `json:"dataDir"`
		ExtraArgs      []Arg    `json:"extraArgs,omitempty"`
		PeerCertSANs   []string `json:"peerCertSANs,omitempty"`
		ServerCertSANs []string `json:"serverCertSANs,omitempty"`
	} `json:"local"`
}

// Networking holds the cluster's ranges and domain.
type Networking struct {
	DNSDomain     string `json:"dnsDomain"`
	PodSubnet     string `json:"podSubnet,omitempty"`
	ServiceSubnet string `json:"serviceSubnet"`
}

// NewClusterConfiguration describes the cluster to kubeadm. A machine's own endpoint is
// published too when none was configured, so that kubeadm join works.
func NewClusterConfiguration(c *kubeadm.Config) ClusterConfiguration {
	repository := c.Delivery.ImageRepository
	if repository == "" {
		repository = kubeadm.DefaultRepository
	}
	k := ClusterConfiguration{
		APIVersion: "kubeadm.k8s.io/v1beta4", Kind: "ClusterConfiguration",
		APIServer:                   Component{CertSANs: c.APIServerSANs, ExtraArgs: args(c.Args[kubeadm.APIServer])},
		ControllerManager:           Component{ExtraArgs: args(c.Args[kubeadm.ControllerManager])},
		Scheduler:                   Component{ExtraArgs: args(c.Args[kubeadm.Scheduler])},
		CACertificateValidityPeriod: duration(c.CAValidity), CertificateValidityPeriod: duration(c.Validity),
		CertificatesDir: kubeadm.PKIDir, ClusterName: c.ClusterName, ControlPlaneEndpoint: c.Endpoint(),
		EncryptionAlgorithm: string(c.Algorithm), ImageRepository: repository, KubernetesVersion: c.KubernetesVersion,
		Networking: Networking{DNSDomain: c.DNSDomain, PodSubnet: c.PodSubnet.String(), ServiceSubnet: c.ServiceSubnet.String()},
	}
	k.Etcd.Local.DataDir = kubeadm.EtcdDataDir
	k.Etcd.Local.ExtraArgs = args(manifests.EtcdArgs(c))
	k.Etcd.Local.PeerCertSANs, k.Etcd.Local.ServerCertSANs = c.EtcdPeerSANs, c.EtcdServerSANs
	return k
}

func uploadConfig(c *kubeadm.Config, _ Inputs) ([]Object, error) {
	cluster, err := yaml.Marshal(NewClusterConfiguration(c))
	if err != nil {
		return nil, encodeError("the ClusterConfiguration", err)
	}
	kubelet, err := yaml.Marshal(manifests.ClusterKubelet(c))
	if err != nil {
		return nil, encodeError("the kubelet configuration", err)
	}
	boot, nodes := group(kubeadm.BootstrapGroup), group(kubeadm.NodesGroup)
	objs := in(UploadConfig, configMap(v1.NamespaceSystem, "kubeadm-config", map[string]string{"ClusterConfiguration": string(cluster)}, false))
	objs = append(objs, in(UploadConfig, readOne(v1.NamespaceSystem, "kubeadm:nodes-kubeadm-config", "configmaps", "kubeadm-config", boot, nodes)...)...)
	objs = append(objs, in(UploadConfig, configMap(v1.NamespaceSystem, "kubelet-config", map[string]string{"kubelet": string(kubelet)}, true))...)
	return append(objs, in(UploadConfig, readOne(v1.NamespaceSystem, "kubeadm:kubelet-config", "configmaps", "kubelet-config", nodes, boot)...)...), nil
}

func args(m map[string]string) []Arg {
	var out []Arg
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, Arg{Name: k, Value: m[k]})
	}
	return out
}

func duration(d time.Duration) string { return d.String() }

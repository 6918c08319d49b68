// SPDX-License-Identifier: Apache-2.0

// Package kubeconfig builds the kubeconfig files of a node with client-go's types: those of
// people and control-plane components with a client certificate embedded, the kubelet's in its
// two forms, the bootstrap kubeconfig, and the document published for discovery.
package kubeconfig

import (
	"fmt"
	"path"

	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// Names of the files below /etc/kubernetes.
const (
	Admin             = "admin.conf"
	SuperAdmin        = "super-admin.conf"
	ControllerManager = "controller-manager.conf"
	Scheduler         = "scheduler.conf"
	Kubelet           = "kubelet.conf"
	BootstrapKubelet  = "bootstrap-kubelet.conf"
)

// Server returns the API URL that a file points at. Control-plane components and the kubelet
// of a control plane talk to the API server beside them; people use the endpoint.
func Server(c *kubeadm.Config, name string) string {
	switch name {
	case ControllerManager, Scheduler, Kubelet:
		return c.LocalURL()
	}
	return c.EndpointURL()
}

// New returns a configuration with one cluster, user and context. A nil caPEM leaves the
// authority out.
func New(cluster, server, user string, caPEM []byte, auth clientcmd.AuthInfo) *clientcmd.Config {
	context := user + "@" + cluster
	return &clientcmd.Config{
		APIVersion:     "v1",
		Kind:           "Config",
		Clusters:       []clientcmd.NamedCluster{{Name: cluster, Cluster: clientcmd.Cluster{Server: server, CertificateAuthorityData: caPEM}}},
		Contexts:       []clientcmd.NamedContext{{Name: context, Context: clientcmd.Context{Cluster: cluster, AuthInfo: user}}},
		AuthInfos:      []clientcmd.NamedAuthInfo{{Name: user, AuthInfo: auth}},
		CurrentContext: context,
	}
}

// Embedded makes the file name (one of those with a certificate inside), issuing its client
// certificate from ca. The result is 0600 and secret.
func Embedded(c *kubeadm.Config, name string, ca *pki.Pair, m *pki.Maker) (kubeadm.File, error) {
	spec, ok := pki.Users(c.NodeName)[name]
	if !ok {
		return kubeadm.File{}, fmt.Errorf("kubeconfig: no file is called %s", name)
	}
	spec.Name = name
	pair, err := m.Leaf(spec, ca)
	if err != nil {
		return kubeadm.File{}, err
	}
	key, err := pki.KeyPEM(pair.Key)
	if err != nil {
		return kubeadm.File{}, fmt.Errorf("%s: %w", name, err)
	}
	user := spec.CommonName
	return Encode(name, New(c.ClusterName, Server(c, name), user, ca.CertPEM(),
		clientcmd.AuthInfo{ClientCertificateData: pair.CertPEM(), ClientKeyData: key}))
}

// KubeletRotating is kubelet.conf once the kubelet manages its own client certificate: it
// refers to the file that certificate rotation replaces.
func KubeletRotating(c *kubeadm.Config, server string, caPEM []byte) (kubeadm.File, error) {
	return Encode(Kubelet, New(c.ClusterName, server, "system:node:"+c.NodeName, caPEM,
		clientcmd.AuthInfo{ClientCertificate: kubeadm.KubeletPEM, ClientKey: kubeadm.KubeletPEM}))
}

// Bootstrap is the kubeconfig a joining kubelet asks for its certificate with.
func Bootstrap(c *kubeadm.Config, server string, caPEM []byte, token kubeadm.Token) (kubeadm.File, error) {
	return Encode(BootstrapKubelet, New(c.ClusterName, server, "tls-bootstrap-token-user", caPEM,
		clientcmd.AuthInfo{Token: token.ID + "." + token.Secret.Reveal()}))
}

// Discovery is the document in the cluster-info ConfigMap: where the API is and which
// authority signs it, and nothing else.
func Discovery(c *kubeadm.Config, caPEM []byte) ([]byte, error) {
	return yaml.Marshal(&clientcmd.Config{
		APIVersion: "v1",
		Kind:       "Config",
		Clusters:   []clientcmd.NamedCluster{{Cluster: clientcmd.Cluster{Server: c.EndpointURL(), CertificateAuthorityData: caPEM}}},
	})
}

// Encode renders a configuration as the file name below /etc/kubernetes.
func Encode(name string, cfg *clientcmd.Config) (kubeadm.File, error) {
	data, err := yaml.Marshal(cfg)
	if err != nil {
		return kubeadm.File{}, fmt.Errorf("%s: cannot be encoded", name) // the cause could quote a key
	}
	return kubeadm.File{Path: path.Join(kubeadm.Dir, name), Mode: 0o600, Data: data}, nil
}

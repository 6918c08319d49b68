// SPDX-License-Identifier: Apache-2.0

package stock

import (
	"net/netip"
	"strings"
	"time"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
)

// Step is something that kubeadm does with a configuration file: Init or Join.
type Step interface {
	config(name string, address netip.Addr) ([]byte, error)
	// command is the command line of a shell.
	command() string
	mark() string
}

// configPath is kubeadm's configuration, which holds secrets.
const configPath = dir + "/kubeadm.yaml"

// program is kubeadm. What its check of the system looks for beyond what Kubernetes needs, such
// as the kernel's configuration in a file, is not in the image.
const program = media + "/bin/kubeadm"

// Init makes a cluster.
type Init struct {
	// Endpoint is the API as clients see it, host:port; other control planes can join only
	// with one. Empty makes it the machine's own address without saying so.
	Endpoint string
	// PodSubnet defaults to 10.244.0.0/16.
	PodSubnet string
	// Token for machines that join, "[a-z0-9]{6}.[a-z0-9]{16}"; empty lets kubeadm make one.
	Token string
	// CertificateKey, 64 hexadecimal digits, uploads the authorities for control planes that join.
	CertificateKey string
}

// Join makes the machine a node of a cluster.
type Join struct {
	// Endpoint is host:port of the API.
	Endpoint string
	Token    string
	// CAHashes pin the authority: "sha256:" and the SHA-256 of its public key.
	CAHashes []string
	// ControlPlane joins as one, with the authorities that CertificateKey decrypts.
	ControlPlane   bool
	CertificateKey string
	// Resumes is how often kubeadm is told to go on from its phase etcd-join when it gives up.
	// There it lists the members of etcd once and waits 2 s, too little for slow machines.
	Resumes int
}

type object = map[string]any

const kubeadmAPI = "kubeadm.k8s.io/v1beta4"

// registration names the node and uses the images that are there.
func registration(name string) object {
	return object{"name": name, "criSocket": kubeadm.CRISocket, "imagePullPolicy": "IfNotPresent"}
}

// timeouts are longer than stock, which an emulated machine on a busy host exceeds; nothing
// waits longer than it must.
func timeouts() object {
	out := object{}
	for _, name := range []string{"controlPlaneComponentHealthCheck", "kubeletHealthCheck", "kubernetesAPICall", "etcdAPICall", "tlsBootstrap", "discovery"} {
		out[name] = meta.Duration{Duration: 15 * time.Minute}
	}
	return out
}

// patientEtcd does not elect a new leader because the old one, emulated, was slow to say that it
// lives. Clusters of package emulated have the same settings, so both are compared alike.
func patientEtcd() object {
	return object{"local": object{"extraArgs": []object{{"name": "heartbeat-interval", "value": "500"}, {"name": "election-timeout", "value": "5000"}}}}
}

func endpoint(address netip.Addr) object { return object{"advertiseAddress": address.String()} }

func (i Init) config(name string, address netip.Addr) ([]byte, error) {
	first := object{"apiVersion": kubeadmAPI, "kind": "InitConfiguration", "nodeRegistration": registration(name), "timeouts": timeouts()}
	if address.IsValid() {
		first["localAPIEndpoint"] = endpoint(address)
	}
	if i.Token != "" {
		first["bootstrapTokens"] = []object{{"token": i.Token}}
	}
	if i.CertificateKey != "" {
		first["certificateKey"] = i.CertificateKey
	}
	pods := i.PodSubnet
	if pods == "" {
		pods = "10.244.0.0/16"
	}
	second := object{"apiVersion": kubeadmAPI, "kind": "ClusterConfiguration", "kubernetesVersion": KubernetesVersion, "networking": object{"podSubnet": pods}, "etcd": patientEtcd()}
	if i.Endpoint != "" {
		second["controlPlaneEndpoint"] = i.Endpoint
	}
	a, err := yaml.Marshal(first)
	if err != nil {
		return nil, err
	}
	b, err := yaml.Marshal(second)
	return append(append(a, "---\n"...), b...), err
}

func (i Init) command() string {
	c := program + " init --config " + configPath + " --skip-token-print --ignore-preflight-errors=SystemVerification"
	if i.CertificateKey != "" {
		c += " --upload-certs --skip-certificate-key-print"
	}
	return c
}

func (Init) mark() string { return InitMark }

func (j Join) config(name string, address netip.Addr) ([]byte, error) {
	c := object{"apiVersion": kubeadmAPI, "kind": "JoinConfiguration", "nodeRegistration": registration(name), "timeouts": timeouts(),
		"discovery": object{"bootstrapToken": object{"apiServerEndpoint": j.Endpoint, "token": j.Token, "caCertHashes": j.CAHashes}}}
	if j.ControlPlane {
		cp := object{"certificateKey": j.CertificateKey}
		if address.IsValid() {
			cp["localAPIEndpoint"] = endpoint(address)
		}
		c["controlPlane"] = cp
	}
	return yaml.Marshal(c)
}

func (j Join) command() string {
	join := program + " join --config " + configPath + " --ignore-preflight-errors=SystemVerification"
	return join + strings.Repeat(" || "+join+" --skip-phases=preflight,control-plane-prepare,check-etcd,kubelet-start", j.Resumes)
}

func (Join) mark() string { return JoinMark }

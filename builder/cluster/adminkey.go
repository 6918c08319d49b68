// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/discovery"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// With pki.mode generate nothing here can sign a certificate for the administrator. Render makes
// his key, which stays here, and gives control planes its public half. They publish a
// certificate for it, and Kubeconfig fetches that.

const adminName = "admin"

// adminKey keeps the administrator's key and returns its public half; "" in other modes. Only the
// first rendering makes one: control planes publish a certificate for the key that they were given.
func (r *renderer) adminKey() (string, error) {
	if r.Cluster.PKI.Mode != node.PKIGenerate {
		return "", nil
	}
	have, err := readStored(r.Options.Dir, adminName)
	if err == nil && have.key == nil {
		if !r.first {
			return "", fault.New(fault.Config, "restore it from a backup: control planes sign a certificate for this key and no other",
				"%s/%s/%s.key is missing, and the cluster was rendered before", r.Options.Dir, pkiDir, adminName)
		}
		have, err = newKey(r.maker)
	}
	if err != nil {
		return "", err
	}
	r.admin = have.key
	r.add("/"+pkiDir+"/"+adminName+".key", 0o600, have.keyText, "key of the administrator")
	public, err := pki.PublicPEM(have.key)
	return string(public), err
}

// Way is how the API servers of a cluster are reached. The zero value is this machine's own
// network and the servers that the index knows.
type Way struct {
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Servers are host:port of API servers, the preferred one first.
	Servers []string
}

// ErrOtherCluster marks a cluster that answers and is not the one whose authority the directory
// holds.
var ErrOtherCluster = discovery.ErrUntrusted

// Kubeconfig makes the administrator's kubeconfig of a cluster that has its authorities for
// itself, and writes it, and the cluster's authority, into the rendered directory. The bootstrap
// token vouches for the authority, or the authority that is there already does. It asks once;
// the error says why there is none yet.
func Kubeconfig(ctx context.Context, dir string, way Way) (file string, err error) {
	ix, err := ReadIndex(dir)
	if err != nil {
		return "", err
	}
	if ix.PKIMode != node.PKIGenerate {
		return "", fault.New(fault.Config, "use "+filepath.Join(dir, KubeconfigFile)+", which render makes", "%s: pki.mode is %s", dir, ix.PKIMode)
	}
	s, err := readSecrets(dir, ix.Name)
	if err != nil {
		return "", err
	}
	_, key, err := readPair(dir, adminName)
	if err == nil && key == nil {
		err = fault.New(fault.Config, "restore it from a backup: control planes sign a certificate for this key and no other", "%s/%s/%s.key is missing", dir, pkiDir, adminName)
	}
	if err != nil {
		return "", err
	}
	question := discovery.Question{Servers: ix.servers(), Timeout: answerLimit, Dial: way.Dial}
	if len(way.Servers) > 0 {
		question.Servers = urls(way.Servers)
	}
	id, secret, _ := s.BootstrapToken.Split()
	question.Tokens = []kubeadm.Token{{ID: id, Secret: node.Secret(secret)}}
	if known, _, err := readPair(dir, pki.CA); err != nil {
		return "", err
	} else if known != nil {
		question.Pins = []string{pki.Pin(known)}
	}
	found, err := discovery.Find(ctx, question)
	if errors.Is(err, ErrOtherCluster) && len(question.Pins) > 0 {
		return "", fault.Wrap(fault.Network, err, fmt.Sprintf("if the cluster whose authority is %s is gone, remove that and %s, and render again",
			filepath.Join(dir, pkiDir, pki.CA+".crt"), filepath.Join(dir, KubeconfigFile)))
	}
	if err != nil {
		return "", fault.Wrap(fault.Network, err, "try again once the first control plane has begun")
	}
	cert, err := adminCertificate(ctx, found, way)
	if err != nil {
		return "", fault.Wrap(fault.Network, err, "try again once a control plane has published it")
	}
	ca, err := pki.ParseCert(found.CAPEM)
	if err != nil {
		return "", err
	}
	spec := pki.Users("")[kubeconfig.Admin]
	if err := pki.Fits(spec, cert, key, ca, time.Now()); err != nil {
		return "", fault.New(fault.Config, "boot the control planes with the configs of this directory", "the administrator's certificate at %s: %w", found.Server, err)
	}
	return writeKubeconfig(dir, ix, found, &pki.Pair{Cert: cert, Key: key}, spec)
}

func writeKubeconfig(dir string, ix *Index, found *discovery.Cluster, pair *pki.Pair, spec pki.Spec) (string, error) {
	text, err := pki.KeyPEM(pair.Key)
	if err != nil {
		return "", err
	}
	server := found.Endpoint
	if ix.EndpointMode == node.EndpointLocal { // where nodes alone are
		server = found.Server
	}
	conf, err := kubeconfig.Encode(kubeconfig.Admin, kubeconfig.New(ix.Name, server, spec.CommonName, found.CAPEM,
		clientcmd.AuthInfo{ClientCertificateData: pair.CertPEM(), ClientKeyData: text}))
	if err != nil {
		return "", err
	}
	_, err = kubeadm.WriteFiles(dir, kubeadm.File{Path: "/" + pkiDir + "/" + pki.CA + ".crt", Mode: 0o644, Data: found.CAPEM},
		kubeadm.File{Path: "/" + KubeconfigFile, Mode: 0o600, Data: conf.Data})
	return filepath.Join(dir, KubeconfigFile), err
}

// servers are the API servers as somebody who is not a node reaches them.
func (ix *Index) servers() []string {
	var out []string
	if ix.EndpointMode != node.EndpointLocal && ix.Endpoint != "" {
		out = append(out, ix.Endpoint)
	}
	for _, h := range ix.Hosts {
		if h.Role == node.ControlPlane && h.Address != "" {
			out = append(out, net.JoinHostPort(h.Address, strconv.Itoa(ix.APIPort)))
		}
	}
	return urls(out)
}

func urls(servers []string) (out []string) {
	for _, s := range servers {
		out = append(out, "https://"+s)
	}
	return out
}

// answerLimit bounds one request.
const answerLimit = 10 * time.Second

// maxAnswer bounds what is read from a server, in bytes.
const maxAnswer = 1 << 20

// adminCertificate reads the published certificate over a connection that the authority vouches for.
func adminCertificate(ctx context.Context, found *discovery.Cluster, way Way) (*x509.Certificate, error) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(found.CAPEM)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}
	if way.Dial != nil {
		transport.DialContext, transport.Proxy = way.Dial, nil
	}
	client := &http.Client{Timeout: answerLimit, Transport: transport}
	url := found.Server + "/api/v1/namespaces/kube-public/configmaps/" + addons.AdminConfigMap
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	var cm corev1.ConfigMap
	switch {
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s has not published a certificate for the administrator yet (%s)", found.Server, resp.Status)
	case json.Unmarshal(body, &cm) != nil:
		return nil, errors.New(url + ": its answer is no ConfigMap")
	}
	cert, err := pki.ParseCert([]byte(cm.Data[addons.AdminCertificate]))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	return cert, nil
}

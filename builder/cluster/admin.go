// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// adminConfig is the part of a resolved configuration that a kubeconfig for people depends on.
// In mode local the endpoint means the asking machine itself, so people ask the first control
// plane.
func (c *Cluster) adminConfig() *kubeadm.Config {
	k := &kubeadm.Config{ClusterName: c.Name, EndpointHost: c.EndpointHost(), EndpointPort: int32(c.Endpoint.Port), EndpointSet: true}
	if c.Endpoint.Mode == node.EndpointLocal {
		k.EndpointHost, k.EndpointPort = c.ControlPlanes()[0].Address, int32(c.APIServer.Port)
	}
	return k
}

// kubeconfig makes the administrator's kubeconfig, or keeps the one that is there until a
// third of its certificate's life is left.
func (r *renderer) kubeconfig() error {
	c, ca := r.Cluster.adminConfig(), r.cas.ca()
	if ca == nil || ca.Key == nil {
		return r.externalKubeconfig(c)
	}
	r.index.Kubeconfig = KubeconfigFile
	const subject = "kubeconfig of the administrator"
	at := filepath.Join(r.Options.Dir, KubeconfigFile)
	if text, err := os.ReadFile(at); err == nil {
		later := r.Now.Add(r.Cluster.PKI.Validity.D() / 3)
		if kubeconfig.Fits(c, kubeconfig.Admin, text, ca, r.Now) == nil && lasts(text, ca, later) {
			if text, err = direct(text); err != nil {
				return err
			}
			r.add("/"+KubeconfigFile, 0o600, text, subject)
			return nil
		}
	}
	f, err := kubeconfig.Embedded(c, kubeconfig.Admin, ca, r.maker)
	if err != nil {
		return err
	}
	r.add("/"+KubeconfigFile, 0o600, f.Data, subject)
	return nil
}

// direct takes the proxy out of a kubeconfig that one was put into for virtual machines which
// ended without a chance to take it out.
func direct(text []byte) ([]byte, error) {
	var cfg clientcmd.Config
	stale := false
	if yaml.Unmarshal(text, &cfg) != nil {
		return nil, errors.New(KubeconfigFile + " cannot be read") // the cause could quote the key
	}
	for i := range cfg.Clusters {
		stale = stale || cfg.Clusters[i].Cluster.ProxyURL != ""
		cfg.Clusters[i].Cluster.ProxyURL = ""
	}
	if !stale {
		return text, nil
	}
	f, err := kubeconfig.Encode(kubeconfig.Admin, &cfg)
	return f.Data, err
}

// lasts reports whether a kubeconfig's certificate is valid at a moment, or as long as its
// authority.
func lasts(text []byte, ca *pki.Pair, at time.Time) bool {
	_, auth, err := kubeconfig.Current(text)
	if err != nil {
		return false
	}
	cert, err := pki.ParseCert(auth.ClientCertificateData)
	return err == nil && (cert.NotAfter.After(at) || !cert.NotAfter.Before(ca.Cert.NotAfter))
}

// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/coreos/ignition/v2/config/v3_5/types"
	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/ignition"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// ErrNoAuthority reports an Ignition config that does not carry the cluster's authority and
// its key, so that nobody outside can sign an administrator's certificate.
var ErrNoAuthority = errors.New("the Ignition config does not carry " + kubeadm.PKIDir + "/ca.crt and ca.key")

// authority finds the cluster's authority in an Ignition config.
func authority(config []byte) (*pki.Pair, error) {
	var cfg types.Config
	if err := json.Unmarshal(config, &cfg); err != nil {
		return nil, errors.New("the Ignition config is not JSON") // the cause could quote a secret
	}
	read := func(path string) []byte {
		for _, f := range cfg.Storage.Files {
			if f.Path == path {
				if data, err := ignition.Data(f.Contents); err == nil {
					return data
				}
			}
		}
		return nil
	}
	certText, keyText := read(kubeadm.PKIDir+"/ca.crt"), read(kubeadm.PKIDir+"/ca.key")
	if certText == nil || keyText == nil {
		return nil, ErrNoAuthority
	}
	cert, err := pki.ParseCert(certText)
	if err != nil {
		return nil, fmt.Errorf("ca.crt of the Ignition config: %w", err)
	}
	key, err := pki.ParseKey(keyText)
	if err != nil {
		return nil, fmt.Errorf("ca.key of the Ignition config: %w", err)
	}
	if !pki.Matches(cert, key) {
		return nil, errors.New("ca.key of the Ignition config does not belong to its ca.crt")
	}
	return &pki.Pair{Cert: cert, Key: key}, nil
}

// adminValidity is how long an administrator's certificate made for a run lasts, caValidity how
// long its authorities do: no shorter than the node's own certificates, which last a year.
const (
	adminValidity = 30 * 24 * time.Hour
	caValidity    = 10 * 365 * 24 * time.Hour
)

func maker(now time.Time) *pki.Maker {
	return &pki.Maker{Algorithm: node.ECDSAP256, CAValidity: caValidity, Validity: adminValidity, Now: now}
}

// serverName is what the API server's certificate always covers, whatever address leads to it.
const serverName = "kubernetes"

// writeKubeconfig makes an administrator's kubeconfig for the API at address (host:port).
func writeKubeconfig(path, address string, ca *pki.Pair, now time.Time) error {
	spec := pki.Users("")[kubeconfig.Admin]
	pair, err := maker(now).Leaf(spec, ca)
	if err != nil {
		return err
	}
	key, err := pki.KeyPEM(pair.Key)
	if err != nil {
		return err
	}
	cfg := kubeconfig.New("imgbuild", "https://"+address, spec.CommonName, ca.CertPEM(),
		clientcmd.AuthInfo{ClientCertificateData: pair.CertPEM(), ClientKeyData: key})
	cfg.Clusters[0].Cluster.TLSServerName = serverName
	text, err := yaml.Marshal(cfg)
	if err != nil {
		return errors.New("the kubeconfig cannot be encoded") // the cause could quote the key
	}
	return writeSecret(path, text)
}

// writeSecret replaces a file that only its owner may read.
func writeSecret(path string, data []byte) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// clientTLS trusts ca and presents the certificate of a member of system:masters, who may ask
// before the cluster's own roles exist. It never leaves this process. Certificates are judged by
// the clock that now reads.
func clientTLS(ca *pki.Pair, now func() time.Time) (*tls.Config, error) {
	pair, err := maker(now()).Leaf(pki.Users("")[kubeconfig.SuperAdmin], ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	return &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: serverName, Time: now,
		Certificates: []tls.Certificate{{Certificate: [][]byte{pair.Cert.Raw}, PrivateKey: pair.Key}},
	}, nil
}

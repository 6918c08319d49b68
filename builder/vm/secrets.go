// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	ignition "github.com/coreos/ignition/v2/config/v3_5/types"
	"github.com/vincent-petithory/dataurl"
	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// GuestFile is a file that Ignition writes in the guest.
type GuestFile struct {
	Path string
	Mode int
	Data []byte
}

// documentYAML is the node document of a machine that is a cluster of its own. Its
// authorities come with it, so that whoever made them can also sign an administrator's
// certificate.
const documentYAML = `apiVersion: ` + node.APIVersion + `
kind: ` + node.Kind + `
role: control-plane
node:
  name: %s
pki:
  mode: shared
`

// SingleNode returns the Ignition config of a single control plane called name, with freshly
// made authorities and the files of extra. It is secret.
func SingleNode(name string, now time.Time, extra ...GuestFile) ([]byte, error) {
	m := maker(now)
	files := []GuestFile{
		{Path: "/etc/hostname", Mode: 0o644, Data: []byte(name + "\n")},
		{Path: node.Path, Mode: 0o600, Data: fmt.Appendf(nil, documentYAML, name)},
	}
	for _, spec := range []pki.Spec{
		{Name: pki.CA, CommonName: "kubernetes", DNS: []string{"kubernetes"}},
		{Name: pki.FrontProxyCA, CommonName: "front-proxy-ca", DNS: []string{"front-proxy-ca"}},
		{Name: pki.EtcdCA, CommonName: "etcd-ca", DNS: []string{"etcd-ca"}},
	} {
		key, err := m.Key()
		if err != nil {
			return nil, err
		}
		pair, err := m.Authority(spec, key)
		if err != nil {
			return nil, err
		}
		text, err := pki.KeyPEM(key)
		if err != nil {
			return nil, err
		}
		files = append(files,
			GuestFile{Path: kubeadm.PKIDir + "/" + spec.Name + ".crt", Mode: 0o644, Data: pair.CertPEM()},
			GuestFile{Path: kubeadm.PKIDir + "/" + spec.Name + ".key", Mode: 0o600, Data: text})
	}
	sa, err := m.Key()
	if err != nil {
		return nil, err
	}
	private, err := pki.KeyPEM(sa)
	if err != nil {
		return nil, err
	}
	files = append(files, GuestFile{Path: kubeadm.PKIDir + "/sa.key", Mode: 0o600, Data: private})
	return encodeIgnition(append(files, extra...))
}

// compressFrom is the size in bytes from which a file is compressed: the guest reads the
// config byte by byte through a port.
const compressFrom = 16 << 10

// encodeIgnition writes a config of specification 3.5.0 that holds files only.
func encodeIgnition(files []GuestFile) ([]byte, error) {
	cfg := ignition.Config{Ignition: ignition.Ignition{Version: ignition.MaxVersion.String()}}
	for _, f := range files {
		contents := ignition.Resource{}
		data := f.Data
		if len(data) > compressFrom {
			var packed bytes.Buffer
			w := gzip.NewWriter(&packed)
			_, _ = w.Write(data) // a Buffer does not fail
			_ = w.Close()
			data = packed.Bytes()
			compression := "gzip"
			contents.Compression = &compression
		}
		source := dataurl.EncodeBytes(data)
		contents.Source = &source
		overwrite, mode := true, f.Mode
		cfg.Storage.Files = append(cfg.Storage.Files, ignition.File{
			Node:          ignition.Node{Path: f.Path, Overwrite: &overwrite},
			FileEmbedded1: ignition.FileEmbedded1{Mode: &mode, Contents: contents},
		})
	}
	return json.Marshal(cfg)
}

// ErrNoAuthority reports an Ignition config that does not carry the cluster's authority and
// its key, so that nobody outside can sign an administrator's certificate.
var ErrNoAuthority = errors.New("the Ignition config does not carry " + kubeadm.PKIDir + "/ca.crt and ca.key")

// authority finds the cluster's authority in an Ignition config.
func authority(config []byte) (*pki.Pair, error) {
	var cfg ignition.Config
	if err := json.Unmarshal(config, &cfg); err != nil {
		return nil, errors.New("the Ignition config is not JSON") // the cause could quote a secret
	}
	read := func(path string) []byte {
		for _, f := range cfg.Storage.Files {
			if f.Path == path && f.Contents.Source != nil {
				if d, err := dataurl.DecodeString(*f.Contents.Source); err == nil {
					return d.Data
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

// validity is how long the certificates made for a run last.
const validity = 30 * 24 * time.Hour

func maker(now time.Time) *pki.Maker {
	return &pki.Maker{Algorithm: node.ECDSAP256, CAValidity: validity, Validity: validity, Now: now}
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
// before the cluster's own roles exist. It never leaves this process.
func clientTLS(ca *pki.Pair, now time.Time) (*tls.Config, error) {
	pair, err := maker(now).Leaf(pki.Users("")[kubeconfig.SuperAdmin], ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	return &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: serverName,
		Certificates: []tls.Certificate{{Certificate: [][]byte{pair.Cert.Raw}, PrivateKey: pair.Key}},
	}, nil
}

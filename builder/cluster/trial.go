// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/base64"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// trial makes the config of a host with stand-ins for its secrets, about as large as those.
func (v *validator) trial(h *Host) ([]byte, error) {
	m := v.standIns()
	if v.c.PKI.Mode == node.PKIGenerate {
		m.adminKey = "-----BEGIN PUBLIC KEY-----\n" + strings.Repeat(m.certificateKey.Reveal(), 2)
	}
	files, err := v.hostFiles(h, &m, v.c.standInKeys(h))
	if err != nil {
		return nil, err
	}
	return v.config(files, v.c.snippetsOf(h))
}

// standInKeys are files like those that a host is given of authorities and certificates.
func (c *Cluster) standInKeys(h *Host) (keys []file) {
	// Sizes are those of PEM text. A third of a certificate is what all have.
	const certificate, common = 700, 240
	const wrapping = "apiVersion clusters certificate-authority-data contexts current-context kind users client-certificate-data client-key-data"
	random := rand.NewChaCha8([32]byte{}) // the same each time
	encode := func(data []byte) string { return base64.StdEncoding.EncodeToString(data) }
	private := func(size int) string {
		data := make([]byte, size*3/4)
		_, _ = random.Read(data) // never fails
		return encode(data)
	}
	shared := private(common)
	public := func() string { return shared + private(certificate-common) }
	at := func(path string, text ...string) {
		keys = append(keys, file{path: path, data: []byte(strings.Join(text, ""))})
	}
	add := func(name string, text ...string) { at(kubeadm.PKIDir+"/"+name, text...) }
	mode, controlPlane, key := c.PKI.Mode, h.Role == node.ControlPlane, c.keySize()
	if mode == node.PKIGenerate || mode == node.PKIShared && !controlPlane {
		return nil
	}
	for _, s := range pki.Specs(&kubeadm.Config{}) {
		if !controlPlane && s.Name != pki.CA || mode == node.PKIShared && !s.IsCA() {
			continue
		}
		add(s.Name+".crt", public())
		if !s.IsCA() || mode == node.PKIShared {
			add(s.Name+".key", private(key))
		}
	}
	if controlPlane {
		add(pki.ServiceAccount+".key", private(key))
	}
	if mode == node.PKIShared {
		return keys
	}
	for _, name := range slices.Sorted(maps.Keys(pki.Users(h.Name))) {
		switch {
		case name == kubeconfig.Kubelet: // its certificate is a file of its own
			at(kubeadm.Dir+"/"+name, wrapping, encode([]byte(public())))
			at(kubeadm.KubeletPEM, public(), private(key))
		case controlPlane:
			at(kubeadm.Dir+"/"+name, wrapping, encode([]byte(public()+public()+private(key))))
		}
	}
	return keys
}

// keySize is about how many bytes a private key of the cluster's algorithm has as PEM text.
func (c *Cluster) keySize() int {
	switch c.PKI.Algorithm {
	case node.RSA2048:
		return 1700
	case node.RSA3072:
		return 2500
	case node.RSA4096:
		return 3300
	}
	return 240
}

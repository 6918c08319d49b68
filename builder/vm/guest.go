// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/coreos/ignition/v2/config/v3_5/types"

	"github.com/imgbuild/imgbuild/firstboot/ignition"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// Guest is what Ignition gives a machine.
type Guest struct {
	Files []GuestFile
	Units []GuestUnit
}

// GuestFile is a file that Ignition writes in the guest.
type GuestFile struct {
	Path string
	Mode int
	Data []byte
}

// GuestUnit is a systemd unit that Ignition writes and enables.
type GuestUnit struct {
	Name, Contents string
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

// SingleNode describes a single control plane called name, with freshly made authorities. It
// is secret.
func SingleNode(name string, now time.Time) (Guest, error) {
	files, err := authorities(now)
	if err != nil {
		return Guest{}, err
	}
	return Guest{Files: append(files, Hostname(name),
		GuestFile{Path: node.Path, Mode: 0o600, Data: fmt.Appendf(nil, documentYAML, name)})}, nil
}

// Hostname is the file that names a machine.
func Hostname(name string) GuestFile {
	return GuestFile{Path: "/etc/hostname", Mode: 0o644, Data: []byte(name + "\n")}
}

// authorities makes what the control planes of a cluster share.
func authorities(now time.Time) ([]GuestFile, error) {
	var files []GuestFile
	m := maker(now)
	for _, spec := range []pki.Spec{
		{Name: pki.CA, CommonName: "kubernetes", DNS: []string{"kubernetes"}},
		{Name: pki.FrontProxyCA, CommonName: "front-proxy-ca", DNS: []string{"front-proxy-ca"}},
		{Name: pki.EtcdCA, CommonName: "etcd-ca", DNS: []string{"etcd-ca"}},
	} {
		pair, err := authorityFiles(m, spec)
		if err != nil {
			return nil, err
		}
		files = append(files, pair...)
	}
	key, err := m.Key()
	if err != nil {
		return nil, err
	}
	text, err := pki.KeyPEM(key)
	return append(files, GuestFile{Path: kubeadm.PKIDir + "/sa.key", Mode: 0o600, Data: text}), err
}

// ClusterCA makes the authority that signs administrators, and nothing else.
func ClusterCA(now time.Time) ([]GuestFile, error) {
	return authorityFiles(maker(now), pki.Spec{Name: pki.CA, CommonName: "kubernetes", DNS: []string{"kubernetes"}})
}

func authorityFiles(m *pki.Maker, spec pki.Spec) ([]GuestFile, error) {
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
	return []GuestFile{
		{Path: kubeadm.PKIDir + "/" + spec.Name + ".crt", Mode: 0o644, Data: pair.CertPEM()},
		{Path: kubeadm.PKIDir + "/" + spec.Name + ".key", Mode: 0o600, Data: text},
	}, nil
}

// Ignition encodes a guest as a config of the newest stable specification.
func (g Guest) Ignition() ([]byte, error) {
	cfg := types.Config{Ignition: types.Ignition{Version: types.MaxVersion.String()}}
	for _, f := range g.Files {
		overwrite, mode := true, f.Mode
		cfg.Storage.Files = append(cfg.Storage.Files, types.File{
			Node:          types.Node{Path: f.Path, Overwrite: &overwrite},
			FileEmbedded1: types.FileEmbedded1{Mode: &mode, Contents: ignition.Contents(f.Data)},
		})
	}
	for _, u := range g.Units {
		enabled, contents := true, u.Contents
		cfg.Systemd.Units = append(cfg.Systemd.Units, types.Unit{Name: u.Name, Enabled: &enabled, Contents: &contents})
	}
	return json.Marshal(cfg)
}

// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"crypto"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/cluster"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// AdminCertificate is the phase that lets the administrator in without a key having travelled.
// kubeadm has none: with it, people copy admin.conf from a control plane.
const AdminCertificate = "admin-certificate"

func adminCertificatePhase(timeout time.Duration) phase.Phase[*State] {
	return phase.Phase[*State]{Name: AdminCertificate, Purpose: "the administrator's key has a certificate",
		Needs: []string{API}, Roles: []string{string(node.ControlPlane)}, Run: signAdmin, Timeout: timeout, OnChange: phase.Redo}
}

func signAdmin(ctx context.Context, s *State) error {
	_, err := s.signAdmin(ctx, s.maker())
	return err
}

// signAdmin publishes a certificate for pki.adminKey, unless there is one that fits and is not
// due. Every control plane does so; certificates of two of them serve equally.
func (s *State) signAdmin(ctx context.Context, m *pki.Maker) (signed bool, err error) {
	if s.Node.PKI.AdminKey == "" || s.Config.ExternalCA {
		return false, nil
	}
	key, err := pki.ParsePublicKey([]byte(s.Node.PKI.AdminKey))
	if err != nil {
		return false, phase.Permanent(fmt.Errorf("pki.adminKey: %w", err))
	}
	ca, err := s.authority()
	if err != nil {
		return false, err
	}
	c, err := s.client()
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.Node.Timeouts.KubernetesAPICall.D())
	defer cancel()
	spec := pki.Users("")[kubeconfig.Admin]
	have := addons.AdminCertificateMap(nil)
	err = c.Retry(ctx, func(ctx context.Context) error {
		err := c.Get(ctx, have)
		if cluster.NotFound(err) {
			return nil
		}
		return err
	})
	if err != nil || adminFits(spec, have.Data[addons.AdminCertificate], key, ca, m) == nil {
		return false, err
	}
	cert, err := m.ForKey(spec, key, ca)
	if err != nil {
		return false, err
	}
	for _, o := range addons.AdminAccess(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})) {
		if err := c.Apply(ctx, o, false); err != nil {
			return false, err
		}
	}
	return true, nil
}

// adminFits says why a published certificate is not the one for key, or that it is due.
func adminFits(spec pki.Spec, text string, key crypto.PublicKey, ca *pki.Pair, m *pki.Maker) error {
	cert, err := pki.ParseCert([]byte(text))
	if err != nil {
		return err
	}
	if err := pki.FitsPublic(spec, cert, key, ca.Cert, m.Now); err != nil {
		return err
	}
	return pki.Lasts(cert, m.Now, m.RenewBefore)
}

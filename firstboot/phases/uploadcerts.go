// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/cluster"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// uploadCerts hands the authorities, encrypted, to the control planes that join.
func uploadCerts(ctx context.Context, s *State) error {
	if s.joined() || s.Node.PKI.Mode != node.PKIGenerate || s.Node.PKI.CertificateKey == "" || s.Config.ExternalCA {
		return nil
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.Node.Timeouts.KubernetesAPICall.D())
	defer cancel()
	return s.handOverCerts(ctx, c, time.Now())
}

// handOverCerts writes the secret kubeadm-certs, from the node's files, and the token that
// takes it away after two hours.
func (s *State) handOverCerts(ctx context.Context, c *cluster.Client, now time.Time) error {
	files := map[string][]byte{}
	for _, name := range addons.SharedFiles {
		data, err := os.ReadFile(s.path(kubeadm.PKIDir + "/" + name))
		if err != nil {
			return fmt.Errorf("handing the authorities over: %w", err)
		}
		files[name] = data
	}
	sealed, err := addons.Seal(files, s.Node.PKI.CertificateKey, rand.Reader)
	if err != nil {
		return err
	}
	random := make([]byte, 11)
	if _, err := rand.Read(random); err != nil {
		return err
	}
	text := hex.EncodeToString(random)
	proxy := kubeadm.Token{ID: text[:6], Secret: node.Secret(text[6:22]), Description: addons.ProxyDescription, Expiration: now.Add(addons.ProxyTTL)}
	ca, err := os.ReadFile(s.path(kubeadm.PKIDir + "/ca.crt"))
	if err != nil {
		return err
	}
	objs, err := addons.Objects(s.Config, addons.Inputs{CAPEM: ca, Certs: &addons.CertUpload{Proxy: proxy, Sealed: sealed}})
	if err != nil {
		return err
	}
	uid := ""
	for _, o := range addons.In(objs, addons.UploadCerts) {
		secret, ok := o.Obj.(*corev1.Secret)
		if ok && secret.Name == "kubeadm-certs" {
			if err := addons.SetOwner(o.Obj, uid); err != nil {
				return err
			}
		}
		if err := c.Apply(ctx, o.Obj, false); err != nil {
			return err
		}
		if ok && secret.Name != "kubeadm-certs" { // the owner, whose identity the server chose
			got := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: secret.Namespace, Name: secret.Name}}
			if err := c.Retry(ctx, func(ctx context.Context) error { return c.Get(ctx, got) }); err != nil {
				return err
			}
			uid = string(got.UID)
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package kubeconfig

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// Names lists the files that a control plane has. super-admin.conf exists only on the node
// that starts the cluster.
func Names(first bool) []string {
	names := []string{Admin, ControllerManager, Scheduler, Kubelet}
	if first {
		names = append(names, SuperAdmin)
	}
	return names
}

// Ensure writes the named files below root, in parallel. A file that is there is kept while it
// trusts ca, points at the right server and its certificate is the wanted one, valid and not due; a
// kubelet.conf that refers to the rotating certificate is kept as well. changed lists what was
// written.
func Ensure(ctx context.Context, root string, c *kubeadm.Config, names []string, ca *pki.Pair, m *pki.Maker) (changed []string, err error) {
	errs := make([]error, len(names))
	wrote := make([][]string, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			if errs[i] = ctx.Err(); errs[i] != nil {
				return
			}
			text, err := os.ReadFile(filepath.Join(root, kubeadm.Dir, name))
			if err == nil && Lasts(c, name, text, ca, m.Now, m.RenewBefore) == nil {
				return
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs[i] = err
				return
			}
			f, err := Embedded(c, name, ca, m)
			if err == nil {
				wrote[i], err = kubeadm.WriteFiles(root, f)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	for _, w := range wrote {
		changed = append(changed, w...)
	}
	return changed, errors.Join(errs...)
}

// Fits says why an existing file cannot be used now, or nil. It never quotes the file.
func Fits(c *kubeadm.Config, name string, text []byte, ca *pki.Pair, now time.Time) error {
	_, err := fits(c, name, text, ca, now)
	return err
}

// Lasts says why an existing file cannot be kept, or nil: it does not fit now, or its certificate
// ends within before.
func Lasts(c *kubeadm.Config, name string, text []byte, ca *pki.Pair, now time.Time, before time.Duration) error {
	cert, err := fits(c, name, text, ca, now)
	if err != nil || cert == nil {
		return err
	}
	return pki.Lasts(cert, now, before)
}

// fits returns the certificate inside too, if there is one.
func fits(c *kubeadm.Config, name string, text []byte, ca *pki.Pair, now time.Time) (*x509.Certificate, error) {
	cluster, auth, err := Current(text)
	if err != nil {
		return nil, err
	}
	if want := Server(c, name); cluster.Server != want {
		return nil, fmt.Errorf("it points at %s instead of %s", cluster.Server, want)
	}
	if !bytes.Equal(bytes.TrimSpace(cluster.CertificateAuthorityData), bytes.TrimSpace(ca.CertPEM())) {
		return nil, errors.New("it trusts another authority")
	}
	if name == Kubelet && auth.ClientCertificate == kubeadm.KubeletPEM && auth.ClientKey == kubeadm.KubeletPEM {
		return nil, nil
	}
	cert, err := pki.ParseCert(auth.ClientCertificateData)
	if err != nil {
		return nil, err
	}
	key, err := pki.ParseKey(auth.ClientKeyData)
	if err != nil {
		return nil, err
	}
	return cert, pki.Fits(pki.Users(c.NodeName)[name], cert, key, ca.Cert, now)
}

// Current decodes a kubeconfig and returns the cluster and user of its current context.
func Current(text []byte) (*clientcmd.Cluster, *clientcmd.AuthInfo, error) {
	var cfg clientcmd.Config
	if err := yaml.Unmarshal(text, &cfg); err != nil {
		return nil, nil, errors.New("not a kubeconfig: it does not decode")
	}
	for _, ctx := range cfg.Contexts {
		if ctx.Name != cfg.CurrentContext {
			continue
		}
		for i := range cfg.Clusters {
			for j := range cfg.AuthInfos {
				if cfg.Clusters[i].Name == ctx.Context.Cluster && cfg.AuthInfos[j].Name == ctx.Context.AuthInfo {
					return &cfg.Clusters[i].Cluster, &cfg.AuthInfos[j].AuthInfo, nil
				}
			}
		}
	}
	return nil, nil, fmt.Errorf("not a usable kubeconfig: its current context %q does not name a cluster and a user of its own", cfg.CurrentContext)
}

// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/cluster"
	"github.com/imgbuild/imgbuild/firstboot/host"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// Renewal is what renewing did.
type Renewal struct {
	// Certificates and Kubeconfigs were made again.
	Certificates, Kubeconfigs []string
	// Admin says that the administrator's key was given another certificate.
	Admin bool
	// Restarted are the components that read their file only when they start.
	Restarted []string
	// Tokens were given another lifetime.
	Tokens []string
	// Authorities says that kubeadm-certs was written again.
	Authorities bool
}

// Renew makes the leaves of a control plane again that expire within before, and, if the
// document asks for it, keeps tokens and kubeadm-certs usable. Before is at most two thirds
// of the leaves' validity, so that a new one is never due at once. Etcd and the API server
// read new files by themselves; the controller manager and the scheduler are restarted, which
// their leader election covers.
func Renew(ctx context.Context, s *State, before time.Duration) (*Renewal, error) {
	r := &Renewal{}
	if s.Config.Role != node.ControlPlane {
		return r, nil // the kubelet renews its own certificate
	}
	if _, err := os.Stat(s.path(kubeadm.PKIDir + "/apiserver.crt")); err != nil {
		return r, fmt.Errorf("first boot has not made certificates on this machine yet: %w", err)
	}
	known, err := LoadMembership(s.Root)
	if err != nil {
		return r, err
	}
	if s.Membership = known; known != nil {
		known.Apply(s.Config)
	}
	m := s.maker()
	m.Now, m.RenewBefore = time.Now(), min(before, s.Config.Validity*2/3)
	err = errors.Join(s.renewLeaves(ctx, m, r), s.renewTokens(ctx, r))
	var signErr error
	r.Admin, signErr = s.signAdmin(ctx, m)
	return r, errors.Join(err, signErr)
}

func (s *State) renewLeaves(ctx context.Context, m *pki.Maker, r *Renewal) error {
	c := *s.Config
	if c.PKIMode == node.PKIGenerate {
		c.PKIMode = node.PKIShared // authorities are first boot's to make
	}
	done, err := pki.Ensure(ctx, s.Root, &c, m)
	if err != nil {
		return fmt.Errorf("renewing certificates: %w", err)
	}
	for _, o := range done.Outcomes {
		if o.Action != pki.Kept {
			r.Certificates = append(r.Certificates, o.Name)
		}
	}
	if done.CA.Key == nil {
		return s.externalKubeconfigs(done.CA, m)
	}
	changed, err := kubeconfig.Ensure(ctx, s.Root, s.Config, s.kubeconfigNames(), done.CA, m)
	for _, c := range changed {
		r.Kubeconfigs = append(r.Kubeconfigs, filepath.Base(c))
	}
	if err != nil {
		return fmt.Errorf("renewing kubeconfigs: %w", err)
	}
	for component, file := range map[string]string{kubeadm.ControllerManager: kubeconfig.ControllerManager, kubeadm.Scheduler: kubeconfig.Scheduler} {
		if !slices.Contains(r.Kubeconfigs, file) {
			continue
		}
		n, err := terminate(s.path("/proc"), component, s.path(kubeadm.Dir))
		if err != nil {
			return err
		}
		if n > 0 {
			r.Restarted = append(r.Restarted, component)
		}
	}
	slices.Sort(r.Restarted)
	return nil
}

// externalKubeconfigs names the files whose certificates somebody else has to renew.
func (s *State) externalKubeconfigs(ca *pki.Pair, m *pki.Maker) error {
	var errs []error
	for _, name := range s.kubeconfigNames() {
		text, err := os.ReadFile(s.path(kubeadm.Dir + "/" + name))
		if err == nil {
			err = kubeconfig.Fits(s.Config, name, text, ca, m.Now.Add(m.RenewBefore))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s/%s: %w; with pki.mode external deliver a new one", kubeadm.Dir, name, err))
		}
	}
	return errors.Join(errs...)
}

// terminate asks the processes of a component, with a kubeconfig in dir, to end; the kubelet starts the container again.
func terminate(proc, component, dir string) (int, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return 0, err
	}
	count := 0
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join(proc, e.Name(), "cmdline"))
		if err != nil {
			continue // it ended in the meantime
		}
		argv0, rest, _ := bytes.Cut(cmdline, []byte{0})
		if filepath.Base(string(argv0)) != component || !bytes.Contains(rest, []byte("--kubeconfig="+dir+"/")) {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			return count, fmt.Errorf("restarting %s: %w", component, err)
		}
		count++
	}
	return count, nil
}

// renewTokens gives tokens that are gone or past half of their life another one.
func (s *State) renewTokens(ctx context.Context, r *Renewal) error {
	if !s.Node.Join.Renew {
		return nil
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.Node.Timeouts.KubernetesAPICall.D())
	defer cancel()
	now := time.Now()
	for i, t := range s.Config.Tokens {
		ttl := s.Node.BootstrapTokens[i].TTL
		if ttl == nil || *ttl == 0 {
			continue
		}
		due, err := tokenDue(ctx, c, t.ID, now.Add(ttl.D()/2))
		if err != nil {
			return err
		}
		if !due {
			continue
		}
		t.Expiration = now.Add(ttl.D()).UTC()
		if err := c.Apply(ctx, addons.TokenSecret(t, true), false); err != nil {
			return err
		}
		r.Tokens = append(r.Tokens, t.ID)
	}
	if s.Node.PKI.Mode != node.PKIGenerate || s.Node.PKI.CertificateKey == "" || s.Config.ExternalCA {
		return nil
	}
	r.Authorities = true
	return s.handOverCerts(ctx, c, now)
}

// tokenDue says whether a token is gone or expires before limit.
func tokenDue(ctx context.Context, c *cluster.Client, id string, limit time.Time) (bool, error) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "bootstrap-token-" + id}}
	err := c.Get(ctx, secret)
	if cluster.NotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	expires, err := time.Parse(time.RFC3339, strings.TrimSpace(string(secret.Data["expiration"])))
	return err != nil && len(secret.Data["expiration"]) > 0 || err == nil && expires.Before(limit), nil
}

// ResolveConfig finds out who the machine is, as phase identity does.
func ResolveConfig(ctx context.Context, s *State) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := host.Recognise(s.Root, s.Node); err != nil {
		return err
	}
	return identity(ctx, s)
}

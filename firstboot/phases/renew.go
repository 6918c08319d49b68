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
	"github.com/imgbuild/imgbuild/firstboot/vip"
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

// Renew makes the leaves of a control plane again that expire within before (see pki.Lasts), and,
// if the document asks for it, keeps tokens and kubeadm-certs usable. Leaves come first: they need
// no API, which may need them. Etcd and the API server read new files by themselves; what reads
// its kubeconfig only once is restarted, which leader election covers. Certificates that cannot be
// made here are named in the error when they are due. So are nodes that are one machine twice: the
// error of Renew is told where people see it, and nobody else looks at the nodes of a cluster.
func Renew(ctx context.Context, s *State, before time.Duration) (*Renewal, error) {
	r := &Renewal{}
	m := s.maker()
	m.Now, m.RenewBefore = time.Now(), before
	if s.Config.Role != node.ControlPlane {
		ca, err := s.authority()
		if err == nil {
			err = s.renewKubelet(ctx, ca, m, r)
		}
		return r, err
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
	return r, errors.Join(s.renewLeaves(ctx, m, r), s.renewObjects(ctx, m, r), s.lookForTwins(ctx))
}

func (s *State) renewLeaves(ctx context.Context, m *pki.Maker, r *Renewal) error {
	c := *s.Config
	if c.PKIMode == node.PKIGenerate {
		c.PKIMode = node.PKIShared // authorities are first boot's to make
	}
	done, err := pki.Ensure(ctx, s.Root, &c, m)
	if err != nil {
		err = fmt.Errorf("renewing certificates: %w", err)
	}
	if s.Config.ExternalCA {
		return errors.Join(err, s.externalLeaves(ctx, m, r))
	}
	if err != nil {
		return err
	}
	for _, o := range done.Outcomes {
		if o.Action != pki.Kept {
			r.Certificates = append(r.Certificates, o.Name)
		}
	}
	changed, err := kubeconfig.Ensure(ctx, s.Root, s.Config, s.kubeconfigNames(), done.CA, m)
	for _, c := range changed {
		r.Kubeconfigs = append(r.Kubeconfigs, filepath.Base(c))
	}
	if err != nil {
		err = fmt.Errorf("renewing kubeconfigs: %w", err)
	}
	err = errors.Join(err, s.restartReaders(r), s.renewKubelet(ctx, done.CA, m, r))
	slices.Sort(r.Restarted)
	return err
}

// externalLeaves names the certificates of kubeconfigs and of the kubelet that somebody else has
// to renew.
func (s *State) externalLeaves(ctx context.Context, m *pki.Maker, r *Renewal) error {
	ca, err := s.authority()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range s.kubeconfigNames() {
		text, err := os.ReadFile(s.path(kubeadm.Dir + "/" + name))
		if err == nil {
			err = kubeconfig.Lasts(s.Config, name, text, ca, m.Now, m.RenewBefore)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s/%s: %w; with pki.mode external deliver a new one", kubeadm.Dir, name, err))
		}
	}
	return errors.Join(append(errs, s.renewKubelet(ctx, ca, m, r))...)
}

// renewKubelet looks after the certificate that the kubelet renews itself, when 70 to 90 percent
// of its life are over. Where the authority's key is, one that the kubelet has let come to its end
// is made again: with an expired one it does not start, and neither does a control plane that was
// off for long. Where nobody signs what the kubelet asks for, a new one has to be delivered.
func (s *State) renewKubelet(ctx context.Context, ca *pki.Pair, m *pki.Maker, r *Renewal) error {
	external := ca.Key == nil && (s.Config.PKIMode == node.PKIExternal || s.Config.Role == node.ControlPlane)
	cert, err := s.kubeletPEM(ca, m.Now)
	if err == nil {
		before := cert.NotAfter.Sub(cert.NotBefore) / 20
		if external {
			before = m.RenewBefore
		}
		if err = pki.Lasts(cert, m.Now, before); err == nil {
			return nil
		}
		err = fmt.Errorf("%s: %w", kubeadm.KubeletPEM, err)
	}
	switch {
	case external:
		return fmt.Errorf("%w; with pki.mode external deliver a new one", err)
	case ca.Key == nil:
		return fmt.Errorf("%w, and the kubelet has not renewed it; see kubectl get csr; once it has expired, wipe the partition state and let the machine join again", err)
	}
	if err := s.makeKubeletPEM(ca, m); err != nil {
		return err
	}
	r.Certificates = append(r.Certificates, "kubelet")
	if err := s.RestartUnit(ctx, KubeletUnit); err != nil {
		return err
	}
	r.Restarted = append(r.Restarted, "kubelet")
	return nil
}

// reader is a component that reads its kubeconfig only when it starts.
type reader struct{ component, file string }

func (s *State) readers() []reader {
	list := []reader{{kubeadm.ControllerManager, kubeconfig.ControllerManager}, {kubeadm.Scheduler, kubeconfig.Scheduler}}
	if s.Node.VIP.Provider == node.VIPKubeVIP {
		list = append(list, reader{vip.KubeVIPName, kubeconfig.Admin})
	}
	return list
}

func (s *State) restartReaders(r *Renewal) error {
	var errs []error
	for _, c := range s.readers() {
		n, err := terminate(s.path("/proc"), s.path(kubeadm.Dir), c, slices.Contains(r.Kubeconfigs, c.file))
		if n > 0 {
			r.Restarted = append(r.Restarted, c.component)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// terminate asks the processes of a component to end that go by a file which was replaced: now,
// which changed says, with the file in dir, or by an earlier run that did not come to this. The
// kubelet starts the container again.
func terminate(proc, dir string, c reader, changed bool) (int, error) {
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
		if filepath.Base(string(argv0)) != c.component {
			continue
		}
		mounts, _ := os.ReadFile(filepath.Join(proc, e.Name(), "mountinfo"))
		if !replaced(mounts, kubeadm.Dir+"/"+c.file) && !(changed && bytes.Contains(rest, []byte("--kubeconfig="+dir+"/"))) {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			return count, fmt.Errorf("restarting %s: %w", c.component, err)
		}
		count++
	}
	return count, nil
}

// replaced says whether a container has a file at path that has another one in its place on the
// host by now: it keeps the one that was mounted when it started, which has no name any more.
func replaced(mountinfo []byte, path string) bool {
	for line := range bytes.Lines(mountinfo) {
		// proc_pid_mountinfo(5): the fourth field is what is mounted, the fifth where.
		f := bytes.Fields(line)
		if len(f) > 4 && string(f[4]) == path && bytes.HasSuffix(f[3], []byte("//deleted")) {
			return true
		}
	}
	return false
}

// renewObjects keeps in the cluster what the document asks for. After a boot the API server is
// waited for, at the pace that leaves it the time to start.
func (s *State) renewObjects(ctx context.Context, m *pki.Maker, r *Renewal) error {
	if !s.Node.Join.Renew && (s.Node.PKI.AdminKey == "" || s.Config.ExternalCA) {
		return nil
	}
	if err := s.awaitAPIServer(ctx); err != nil {
		return err
	}
	err := s.renewTokens(ctx, r)
	var signErr error
	r.Admin, signErr = s.signAdmin(ctx, m)
	return errors.Join(err, signErr)
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
	err = s.handOverCerts(ctx, c, now)
	r.Authorities = err == nil
	return err
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

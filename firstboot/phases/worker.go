// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	kubelet "k8s.io/kubelet/config/v1beta1"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/manifests"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// bootstrapped says what a worker's kubelet still lacks to work without the token.
func (s *State) bootstrapped() error {
	text, err := os.ReadFile(s.path(kubeadm.Dir + "/" + kubeconfig.Kubelet))
	if err != nil {
		return errors.New("the kubelet has not got its certificate yet")
	}
	if _, _, err := kubeconfig.Current(text); err != nil {
		return err
	}
	text, err = os.ReadFile(s.path(kubeadm.PKIDir + "/ca.crt"))
	if err != nil {
		return err
	}
	ca, err := pki.ParseCert(text)
	if err != nil {
		return fmt.Errorf("%s/ca.crt: %w", kubeadm.PKIDir, err)
	}
	// The certificate may have been signed long after the run began.
	return s.kubeletPEMFits(&pki.Pair{Cert: ca}, time.Now())
}

// joinFiles are the files of a worker's kubelet: the cluster's configuration with what this
// machine's document changes, the authority, and the token to ask for a certificate with.
func (s *State) joinFiles(ctx context.Context) ([]kubeadm.File, error) {
	if s.Found == nil {
		return s.deliveredFiles(ctx)
	}
	c, err := s.visitor()
	if err != nil {
		return nil, err
	}
	shared, err := clusterKubelet(ctx, c)
	if err != nil {
		return nil, err
	}
	files, err := kubeletFilesFrom(s.Config, instance(shared, s.Config.Kubelet))
	if err != nil {
		return nil, err
	}
	boot, err := kubeconfig.Bootstrap(s.Config, s.Config.EndpointURL(), s.Found.CAPEM, s.Found.Token)
	if err != nil {
		return nil, err
	}
	return append([]kubeadm.File{{Path: kubeadm.PKIDir + "/ca.crt", Mode: 0o644, Data: s.Found.CAPEM}, boot}, files...), nil
}

// deliveredFiles are the files of a worker whose kubelet has its certificate already. Once they
// are written, nothing has to be.
func (s *State) deliveredFiles(ctx context.Context) ([]kubeadm.File, error) {
	if !s.absent(kubeadm.KubeletDir + "/config.yaml") {
		return nil, nil
	}
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	shared, err := clusterKubelet(ctx, c)
	if err != nil {
		return nil, err
	}
	return kubeletFilesFrom(s.Config, instance(shared, s.Config.Kubelet))
}

// instance returns the shared configuration with what one machine changes.
func instance(shared *kubelet.KubeletConfiguration, own node.Kubelet) *kubelet.KubeletConfiguration {
	k := shared.DeepCopy()
	if own.MaxPods != 0 {
		k.MaxPods = own.MaxPods
	}
	for _, m := range []struct {
		to   *map[string]string
		from map[string]string
	}{{&k.SystemReserved, own.SystemReserved}, {&k.KubeReserved, own.KubeReserved}} {
		if m.from != nil {
			*m.to = m.from
		}
	}
	manifests.Evictions(k, own)
	if own.ResolvConf != "" {
		k.ResolverConfig = &own.ResolvConf
	}
	return k
}

// waitBootstrap waits until the kubelet has a certificate of its own, then removes the token.
func waitBootstrap(ctx context.Context, s *State) error {
	ctx, cancel := context.WithTimeout(ctx, s.Node.Timeouts.TLSBootstrap.D())
	defer cancel()
	for began := time.Now(); ; {
		err := s.bootstrapped()
		if err == nil {
			break
		}
		if time.Since(began) > 10*time.Second {
			phase.Report(ctx, err)
		}
		if s.sleep(ctx) != nil {
			return fmt.Errorf("%w; see journalctl -u %s, and on a control plane kubectl get csr", err, KubeletUnit)
		}
	}
	s.Mark("kubelet-certificate")
	// What replaces the token has to be on the disk before the token is gone.
	if err := s.settle(); err != nil {
		return err
	}
	err := os.Remove(s.path(kubeadm.BootstrapConf))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return kubeadm.SyncDir(s.path(kubeadm.Dir))
}

// sharedKubelet is the configuration of a control plane's kubelet: its own where it starts
// the cluster, the cluster's where it joins one. There the node's name has to be free: with the
// authority at hand, the kubelet would make itself another machine's node.
func (s *State) sharedKubelet(ctx context.Context) (*kubelet.KubeletConfiguration, error) {
	if !s.joined() {
		return instance(manifests.ClusterKubelet(s.Config), s.Config.Kubelet), nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.Node.Timeouts.KubernetesAPICall.D())
	defer cancel()
	for {
		c, err := s.remote(ctx)
		if err == nil {
			err = s.nameFree(ctx, c)
		}
		if err == nil {
			shared, err := clusterKubelet(ctx, c)
			if err != nil {
				return nil, err
			}
			return instance(shared, s.Config.Kubelet), nil
		}
		phase.Report(ctx, err)
		if s.sleep(ctx) != nil {
			return nil, fmt.Errorf("asking the cluster for the kubelet's configuration: %w", err)
		}
	}
}

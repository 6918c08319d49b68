// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	kubelet "k8s.io/kubelet/config/v1beta1"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/manifests"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// KubeletUnit is the unit that runs the kubelet. It is skipped at boot until config.yaml
// exists and starts by itself afterwards.
const KubeletUnit = "kubelet.service"

// startKubelet writes the kubelet's files and starts it. config.yaml is written last:
// its presence is what lets the unit start, so a power cut never leaves a kubelet that
// starts half configured at the next boot.
func startKubelet(ctx context.Context, s *State) error {
	files, err := s.kubeletFiles(ctx)
	if err != nil {
		return err
	}
	// The kubelet watches this directory only if it exists when the kubelet starts;
	// otherwise it looks again a second later.
	if err := kubeadm.MakeDir(s.Root, kubeadm.ManifestsDir); err != nil {
		return err
	}
	if err := kubeadm.MakeDir(s.Root, kubeadm.KubeletDir); err != nil {
		return err
	}
	// It exists with the usual mode of a directory where a certificate was delivered into it.
	if err := os.Chmod(s.path(kubeadm.KubeletDir), 0o700); err != nil {
		return err
	}
	serving, err := s.servingCertificate()
	if err != nil {
		return err
	}
	if _, err := kubeadm.WriteFiles(s.Root, append(serving, files...)...); err != nil {
		return err
	}
	return s.StartUnit(ctx, KubeletUnit)
}

// servingCertificate makes the key and the self-signed certificate that the kubelet serves
// with, where it looks for them. It would make both itself, with two RSA keys, while static
// pods wait: seconds on a slow machine. Like those, nobody verifies it; a cluster that wants
// that sets serverTLSBootstrap. A power cut that leaves one file leads to two new ones: the
// kubelet refuses to start with half a pair.
func (s *State) servingCertificate() ([]kubeadm.File, error) {
	const name = kubeadm.KubeletDir + "/pki/kubelet"
	if _, err := tls.LoadX509KeyPair(s.path(name+".crt"), s.path(name+".key")); err == nil {
		return nil, nil
	}
	pair, err := s.maker().SelfSigned(pki.Spec{Name: "kubelet", CommonName: s.Config.NodeName, Server: true, DNS: []string{s.Config.NodeName}})
	if err != nil {
		return nil, err
	}
	key, err := pki.KeyPEM(pair.Key)
	if err != nil {
		return nil, err
	}
	return []kubeadm.File{{Path: name + ".key", Mode: 0o600, Data: key}, {Path: name + ".crt", Mode: 0o644, Data: pair.CertPEM()}}, nil
}

func (s *State) kubeletFiles(ctx context.Context) ([]kubeadm.File, error) {
	if s.Config.Role == node.Worker {
		return s.joinFiles(ctx)
	}
	shared, err := s.sharedKubelet(ctx)
	if err != nil {
		return nil, err
	}
	return kubeletFilesFrom(s.Config, shared)
}

// kubeletFilesFrom renders the kubelet's files with config.yaml at the end.
func kubeletFilesFrom(c *kubeadm.Config, shared *kubelet.KubeletConfiguration) ([]kubeadm.File, error) {
	files, err := manifests.KubeletFiles(c, shared)
	if err != nil {
		return nil, err
	}
	for i, f := range files {
		if strings.HasSuffix(f.Path, "/config.yaml") {
			return append(append(files[:i:i], files[i+1:]...), f), nil
		}
	}
	return nil, fmt.Errorf("the kubelet's files lack config.yaml")
}

// kubeletRuns checks that the files are as wanted and that the kubelet is healthy.
func kubeletRuns(ctx context.Context, s *State) error {
	if s.Config.Role == node.Worker || s.joined() {
		// The files came from the cluster; config.yaml was written last.
		if _, err := os.Stat(s.path(kubeadm.KubeletDir + "/config.yaml")); err != nil {
			return err
		}
		return s.kubeletHealthy(ctx)
	}
	files, err := s.kubeletFiles(ctx)
	if err != nil {
		return err
	}
	if err := s.asWanted(files); err != nil {
		return err
	}
	return s.kubeletHealthy(ctx)
}

func (s *State) kubeletHealthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	url := "http://" + net.JoinHostPort(s.loopback(), strconv.Itoa(kubeadm.KubeletHealthPort)) + "/healthz"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("the kubelet does not answer: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		return fmt.Errorf("the kubelet at %s answers %s: %s", url, resp.Status, bytes.TrimSpace(body))
	}
	return nil
}

// finalizeKubelet waits for a healthy kubelet and verifies that kubelet.conf refers to
// the certificate the kubelet renews.
func finalizeKubelet(ctx context.Context, s *State) error {
	ctx, cancel := context.WithTimeout(ctx, s.Node.Timeouts.KubeletHealthCheck.D())
	defer cancel()
	for {
		err := s.kubeletHealthy(ctx)
		if err == nil {
			break
		}
		if s.sleep(ctx) != nil {
			return fmt.Errorf("%w; see journalctl -u %s", err, KubeletUnit)
		}
	}
	s.Mark("kubelet-healthy")
	text, err := os.ReadFile(s.path(kubeadm.Dir + "/" + kubeconfig.Kubelet))
	if err != nil {
		return err
	}
	_, user, err := kubeconfig.Current(text)
	if err != nil {
		return err
	}
	if user.ClientCertificate != kubeadm.KubeletPEM || user.ClientKey != kubeadm.KubeletPEM {
		return fmt.Errorf("%s/%s does not refer to %s", kubeadm.Dir, kubeconfig.Kubelet, kubeadm.KubeletPEM)
	}
	return nil
}

// patience is how long the API may have been missed before the kubelet is restarted. The
// pauses between a client's attempts double up to half a minute; until the last of the
// kubelet's informers has come through one, it starts no pod that needs the API.
const patience = 5 * time.Second

// connectKubelet makes the kubelet use this machine's API server. It is restarted if it used
// another until now, or if it has been asking for an API that was not there; static pods do not
// notice. The API server is healthy by then, because its liveness probe begins at a restart.
func connectKubelet(ctx context.Context, s *State) error {
	if !s.kubeletFollows() && (s.KubeletPaused || s.APIWait < patience) {
		return nil
	}
	if err := s.awaitAPIServer(ctx); err != nil {
		return err
	}
	if _, err := s.pointKubelet(s.Config.LocalURL()); err != nil {
		return err
	}
	return s.RestartUnit(ctx, KubeletUnit)
}

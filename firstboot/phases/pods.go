// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/imgbuild/imgbuild/firstboot/containerd"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/manifests"
	"github.com/imgbuild/imgbuild/firstboot/manifests/verity"
)

// podFiles returns the manifests for which want holds.
func podFiles(s *State, want func(component string) bool) ([]kubeadm.File, error) {
	var files []kubeadm.File
	for _, pod := range manifests.StaticPods(s.Config) {
		if !want(pod.Name) {
			continue
		}
		f, err := manifests.File(pod)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

func isEtcd(component string) bool      { return component == kubeadm.Etcd }
func isAPIServer(component string) bool { return component == kubeadm.APIServer }

// isController tells the programs that are clients of the API server.
func isController(component string) bool { return !isEtcd(component) && !isAPIServer(component) }

// place writes manifests. The kubelet sees each one entire: it ignores the names that
// files have while they are written.
func place(s *State, want func(string) bool) error {
	files, err := podFiles(s, want)
	if err == nil {
		_, err = kubeadm.WriteFiles(s.Root, files...)
	}
	return err
}

func placed(s *State, want func(string) bool) error {
	files, err := podFiles(s, want)
	if err != nil {
		return err
	}
	return s.asWanted(files)
}

// placeControllers places the controller manager and the scheduler when the API server is
// healthy. Until then it writes a hundred RBAC objects, within 30 seconds or its process ends,
// and needs the processors for that. Clients that start earlier only lose: a controller manager
// that finds /healthz bad for ten seconds ends its process and leaves its lease behind, and the
// informers of a scheduler have made their pauses half a minute long by then.
func placeControllers(ctx context.Context, s *State) error {
	if err := s.awaitAPIServer(ctx); err != nil {
		return err
	}
	return place(s, isController)
}

func controllersPlaced(_ context.Context, s *State) error { return placed(s, isController) }

// asWanted says which file is absent or another than the node document leads to.
func (s *State) asWanted(files []kubeadm.File) error {
	for _, f := range files {
		have, err := os.ReadFile(s.path(f.Path))
		if err != nil {
			return err
		}
		if !bytes.Equal(have, f.Data) {
			return fmt.Errorf("%s is not what the node document asks for", f.Path)
		}
	}
	return nil
}

// placeAPIServer places the API server when it is its turn, and after the name that the pods
// of the control plane have their image by is there. The kubelet meanwhile has gone to an API
// server that is there.
func placeAPIServer(ctx context.Context, s *State) error {
	if err := nameBaseImage(ctx, s); err != nil {
		return err
	}
	if server := s.takeTurn(ctx); server != "" {
		changed, err := s.pointKubelet(server)
		if err == nil && changed {
			err = s.RestartUnit(ctx, KubeletUnit)
		}
		if err != nil {
			return err
		}
	}
	return place(s, isAPIServer)
}

func apiServerPlaced(ctx context.Context, s *State) error {
	if err := placed(s, isAPIServer); err != nil {
		return err
	}
	return withContainerd(s, func(c *containerd.Client) error {
		return imagesThere(ctx, c, verity.Ref(kubeadm.APIServer, s.Config.KubernetesVersion))
	})
}

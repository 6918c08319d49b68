// SPDX-License-Identifier: Apache-2.0

package cluster

import "github.com/imgbuild/imgbuild/firstboot/kubeadm"

func (r *renderer) external(h *Host) ([]file, bool, error) { return nil, false, nil }

func (r *renderer) externalKubeconfig(*kubeadm.Config) error { return nil }

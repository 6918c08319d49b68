// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/addons/cni"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// configureCNI writes the runtime's configuration, which is the same on every node: pods
// wait in it for their node's subnet, and the node need not.
func configureCNI(_ context.Context, s *State) error {
	if s.Node.Network.Provider != node.NetworkFlannel {
		return nil
	}
	data, err := cni.Config(s.Node.Cluster.ProxyMode == node.ProxyNFTables)
	if err == nil {
		_, err = kubeadm.WriteFiles(s.Root, kubeadm.File{Path: cni.ConfigFile, Mode: 0o644, Data: data})
	}
	return err
}

// WriteCNI renders how this node attaches pods from the subnet file below root. A missing
// subnet file is an error that wraps os.ErrNotExist. Writing what is there already touches
// nothing.
func WriteCNI(root string) (changed bool, err error) {
	text, err := os.ReadFile(filepath.Join(root, cni.SubnetFile))
	if err != nil {
		return false, fmt.Errorf("flannel has not written its subnet file: %w", err)
	}
	subnet, err := cni.Parse(text)
	if err != nil {
		return false, err
	}
	data, err := cni.Render(subnet)
	if err != nil {
		return false, err
	}
	wrote, err := kubeadm.WriteFiles(root, kubeadm.File{Path: cni.NetworkFile, Mode: 0o644, Data: data})
	return len(wrote) > 0, err
}

// awaitSubnet renders how pods are attached as soon as flannel has written its subnet file.
// On later boots firstboot-cni.path does this whenever the file changes.
func awaitSubnet(ctx context.Context, s *State) error {
	if s.Node.Network.Provider != node.NetworkFlannel {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.Node.Timeouts.NodeReady.D())
	defer cancel()
	for {
		_, err := WriteCNI(s.Root)
		if err == nil {
			return nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		select { // one system call every time, so it can be often
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w; see the pods in namespace kube-flannel", err)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/status"
)

// DoneMarker exists once first boot is complete; firstboot.service is skipped from then
// on. It is on the state partition and holds what was done, in JSON.
const DoneMarker = "/var/lib/imgbuild/firstboot/done"

// awaitReady waits until the node is Ready in this boot. That of an earlier one may be there
// still: of a run that the power was cut in, or of the disk that the machine had before.
func awaitReady(ctx context.Context, s *State) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.Node.Timeouts.NodeReady.D())
	defer cancel()
	return c.WaitReadyThisBoot(ctx, s.Config.NodeName, status.BootID())
}

// handOver records that first boot is complete. It is the last thing that happens, so a
// power cut before it makes the next boot check everything again.
func handOver(_ context.Context, s *State) error {
	data, err := json.MarshalIndent(map[string]string{
		"node":       s.Config.NodeName,
		"role":       string(s.Config.Role),
		"kubernetes": s.Config.KubernetesVersion,
		"completed":  time.Now().UTC().Format(time.RFC3339),
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	_, err = kubeadm.WriteFiles(s.Root, kubeadm.File{Path: DoneMarker, Mode: 0o644, Data: append(data, '\n')})
	return err
}

// settle returns when everything written to the state partition is on the disk. The kubelet and
// containerd do not sync each file they write: a power cut within half a minute leaves some of
// them empty. While first boot lasts its checks find that; afterwards nobody looks.
func (s *State) settle() error {
	if err := kubeadm.MakeDir(s.Root, filepath.Dir(DoneMarker)); err != nil {
		return err
	}
	dir, err := os.Open(s.path(filepath.Dir(DoneMarker)))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("syncing the state partition: %w", err)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/preflight"
)

// KernelModules is the phase that loads what kube-proxy expects to be loaded.
const KernelModules = "kernel-modules"

const (
	modulesFile = "/etc/modules-load.d/kube-proxy.conf"
	modulesUnit = "systemd-modules-load.service"
)

func modulesPhase() phase.Phase[*State] {
	return phase.Phase[*State]{Name: KernelModules, Purpose: "the kernel has what kube-proxy's mode needs",
		Needs: []string{Preflight}, Run: loadModules, Timeout: time.Minute, Attempts: 3, Pause: time.Second, OnChange: phase.Redo}
}

// loadModules has the modules of ipvs loaded, now and at later boots. Those of the other modes
// the kernel loads by itself, with the first rule that needs one, and a start is not to wait
// for them.
func loadModules(ctx context.Context, s *State) error {
	if s.Node.Cluster.ProxyMode != node.ProxyIPVS {
		return s.clear(modulesFile)
	}
	text := strings.Join(preflight.ProxyModules(node.ProxyIPVS), "\n") + "\n"
	changed, err := kubeadm.WriteFiles(s.Root, kubeadm.File{Path: modulesFile, Mode: 0o644, Data: []byte(text)})
	if err != nil || len(changed) == 0 {
		return err
	}
	return s.RestartUnit(ctx, modulesUnit)
}

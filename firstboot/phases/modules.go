// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"fmt"
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
// for them. What the unit achieved is seen by the modules themselves.
func loadModules(ctx context.Context, s *State) error {
	if s.Node.Cluster.ProxyMode != node.ProxyIPVS {
		return s.clear(modulesFile)
	}
	modules := preflight.ProxyModules(node.ProxyIPVS)
	text := strings.Join(modules, "\n") + "\n"
	if _, err := kubeadm.WriteFiles(s.Root, kubeadm.File{Path: modulesFile, Mode: 0o644, Data: []byte(text)}); err != nil {
		return err
	}
	missing, err := preflight.NotLoaded(s.Root, modules...)
	if err != nil || missing == nil {
		return err
	}
	if err := s.RestartUnit(ctx, modulesUnit); err != nil {
		return err
	}
	for {
		if missing, err = preflight.NotLoaded(s.Root, missing...); err != nil || missing == nil {
			return err
		}
		if s.sleep(ctx) != nil {
			return fmt.Errorf("cluster.proxyMode ipvs: the kernel does not load %s; the console has its reason; take what forbids them off the kernel's command line in the profile, or choose another mode", strings.Join(missing, ", "))
		}
	}
}

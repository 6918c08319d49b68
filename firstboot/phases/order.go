// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
)

// absence is how long a machine may be out of reach before it counts as switched off.
const absence = 15 * time.Second

// predecessors are the control planes that start this cluster and come before this machine by
// name: the API server of one of them starts before this machine's. API servers that start at once on an empty etcd get in each
// other's way: each writes the same hundred RBAC objects, and one that has not come to an
// end with them after 30 seconds gives up its process and begins again. So one of them starts
// first, and the others, which find the objects there, at once after it.
func (s *State) predecessors() []node.Peer {
	if s.Membership == nil || s.Membership.Joined {
		return nil
	}
	members := slices.SortedFunc(slices.Values(s.Membership.Members), func(a, b node.Peer) int { return strings.Compare(a.Name, b.Name) })
	return members[:max(0, slices.Index(members, s.self()))]
}

// takeTurn waits until the API server of a predecessor is healthy, and returns its URL, or until
// the machines of all predecessors are off, for each at most a quarter of the time a component
// may take. It returns nothing if this machine is to go on alone: because it is the first,
// because those before it are off, or because they take too long.
func (s *State) takeTurn(ctx context.Context) string {
	before := s.predecessors()
	limit := s.Node.Timeouts.ControlPlaneComponentHealthCheck.D() * time.Duration(min(len(before), 3)) / 4
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	client := probeClient(healthTimeout)
	defer client.CloseIdleConnections()
	seen := map[string]time.Time{}
	for _, p := range before {
		seen[p.Name] = time.Now()
	}
	for {
		began := time.Now()
		if server := s.firstHealthy(ctx, client, before); server != "" {
			return server
		}
		before = slices.DeleteFunc(before, func(p node.Peer) bool {
			if reachable(ctx, p) {
				seen[p.Name] = time.Now()
			}
			return time.Since(seen[p.Name]) >= absence
		})
		if len(before) == 0 {
			return ""
		}
		phase.Report(ctx, fmt.Errorf("waiting for the API server of %s, which starts first", before[0].Name))
		if !pause(ctx, breather(began)) {
			return ""
		}
	}
}

// firstHealthy returns the URL of the first of these machines' API servers that is healthy, or
// nothing.
func (s *State) firstHealthy(ctx context.Context, client *http.Client, peers []node.Peer) (server string) {
	for _, p := range peers {
		if health(ctx, client, s.serverOf(p)+"/livez") == nil {
			return s.serverOf(p)
		}
	}
	return ""
}

// markMeanwhile lets a predecessor's API server, as soon as one is healthy, mark this machine's
// node as a control plane, until stop is called: the kubelet has registered it there, pods of
// users shall not come to it, and this machine's own API server may take minutes. What does not
// succeed is done by phase mark-control-plane.
func (s *State) markMeanwhile(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var marking sync.WaitGroup
	if before := s.predecessors(); len(before) > 0 {
		marking.Go(func() { s.markThrough(ctx, before) })
	}
	return func() {
		cancel()
		marking.Wait()
	}
}

// markThrough marks the node by way of the first of these machines whose API server is healthy.
func (s *State) markThrough(ctx context.Context, peers []node.Peer) {
	client := probeClient(healthTimeout)
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		began := time.Now()
		if server := s.firstHealthy(ctx, client, peers); server != "" && s.markAt(ctx, server) == nil {
			s.Log.Info("control plane", "node", "marked", "through", server)
			return
		}
		pause(ctx, breather(began))
	}
}

// markAt marks the node by way of one API server.
func (s *State) markAt(ctx context.Context, server string) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	c, err := s.clientOf(server)
	if err != nil {
		return err
	}
	return s.dressNode(ctx, c)
}

// reachable says whether a machine is on: one that refuses a connection to etcd is.
func reachable(ctx context.Context, p node.Peer) bool {
	conn, err := (&net.Dialer{Timeout: absence / 3}).DialContext(ctx, "tcp", net.JoinHostPort(p.Address, strconv.Itoa(kubeadm.EtcdClientPort)))
	if err == nil {
		conn.Close()
	}
	return err == nil || errors.Is(err, syscall.ECONNREFUSED)
}

// serverOf is the URL of a control plane's API server.
func (s *State) serverOf(p node.Peer) string {
	return kubeadm.URL("https", p.Address, int(s.Config.APIPort))
}

// kubeletServer is where the kubelet finds an API server: on this machine, and until that
// one's manifest is there with the first of those that start before it. The kubelet registers
// the node meanwhile, as that of a machine that joins with kubeadm does.
func (s *State) kubeletServer() string {
	if before := s.predecessors(); len(before) > 0 && s.absent(kubeadm.ManifestsDir+"/"+kubeadm.APIServer+".yaml") {
		return s.serverOf(before[0])
	}
	return s.Config.LocalURL()
}

// kubeletFollows says that kubelet.conf leads to a predecessor.
func (s *State) kubeletFollows() bool {
	text, err := os.ReadFile(s.path(kubeadm.Dir + "/" + kubeconfig.Kubelet))
	if err != nil {
		return false
	}
	c, _, err := kubeconfig.Current(text)
	return err == nil && slices.ContainsFunc(s.predecessors(), func(p node.Peer) bool { return s.serverOf(p) == c.Server })
}

// pointKubelet makes kubelet.conf lead to server. A kubelet that runs has to be restarted
// then, which changed says. With an external authority the file is delivered and stays.
func (s *State) pointKubelet(server string) (changed bool, err error) {
	ca, err := s.authority()
	if err != nil || ca.Key == nil {
		return false, err
	}
	conf, err := kubeconfig.KubeletRotating(s.Config, server, ca.CertPEM())
	if err != nil {
		return false, err
	}
	wrote, err := kubeadm.WriteFiles(s.Root, conf)
	return len(wrote) > 0, err
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/imgbuild/imgbuild/builder/cluster"
	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/builder/vm/ethernet"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// patience bounds what takes seconds on real hardware, on emulated machines.
const patience = 5 * time.Minute

// clusterVIP is a running cluster whose virtual address is watched.
type clusterVIP struct {
	*bench
	fleet    *running
	address  netip.Addr
	endpoint string
	apiPort  int
}

// outage is something that happens to a machine that owns the virtual address. do returns when
// it happened.
type outage struct {
	name  string
	times int
	do    func(*clusterVIP, *vm.Member) (time.Time, error)
	undo  func(*clusterVIP, *vm.Member) error
}

// clusterOutages are what happens in a cluster of machines. A machine that was killed has to boot
// again, which takes minutes under emulation.
func (b *bench) clusterOutages() []outage {
	return []outage{
		{"keepalived is killed", b.kills, (*clusterVIP).killKeepalived, nil},
		{"the owner's link is cut", b.cuts, func(_ *clusterVIP, m *vm.Member) (time.Time, error) {
			m.Port.Cut()
			return time.Now(), nil
		}, func(_ *clusterVIP, m *vm.Member) error {
			m.Port.Restore()
			return nil
		}},
		{"the owner's machine is killed", b.crashes, func(_ *clusterVIP, m *vm.Member) (time.Time, error) {
			began := time.Now()
			m.Kill()
			return began, nil
		}, func(c *clusterVIP, m *vm.Member) error { return errors.Join(m.Start(), c.fleet.WaitReady(c.ctx)) }},
	}
}

// incidents measures in a running cluster how long it takes until the virtual address is
// announced again, and until the API answers on it.
func (b *bench) incidents(f *running, ix *cluster.Index) error {
	address, err := netip.ParseAddr(ix.VIP)
	if err != nil {
		return fmt.Errorf("the cluster's virtual address: %w", err)
	}
	c := &clusterVIP{bench: b, fleet: f, address: address, endpoint: ix.Endpoint, apiPort: ix.APIPort}
	for _, o := range b.clusterOutages() {
		var announced, answered []float64
		for i := range o.times {
			owner, err := c.calm()
			if err != nil {
				return fmt.Errorf("before %s, %d: %w", o.name, i+1, err)
			}
			a, z, err := c.suffer(o, owner)
			if err != nil {
				return fmt.Errorf("%s on %s, %d: %w", o.name, owner.Host.Name, i+1, err)
			}
			b.say("%s on %s, %d of %d: announced after %.2f s, answers after %.2f s", o.name, owner.Host.Name, i+1, o.times, a.Seconds(), z.Seconds())
			announced, answered = append(announced, a.Seconds()), append(answered, z.Seconds())
		}
		if o.times > 0 {
			b.report.add(Measure{Name: "virtual address announced after " + o.name, Unit: "s", Runs: announced, Target: away, Note: "in machines, TCG"})
			b.report.add(Measure{Name: "API answers on it after " + o.name, Unit: "s", Runs: answered, Note: "in machines, TCG"})
		}
	}
	return nil
}

// suffer lets an outage happen and undoes it. It measures from the moment when it happened
// until somebody announced the address, and until the API answered on it after that.
func (c *clusterVIP) suffer(o outage, owner *vm.Member) (announced, answered time.Duration, err error) {
	seen, forget := announcements(c.fleet.Gateway.Port(), c.address)
	defer forget()
	began, err := o.do(c, owner)
	if err != nil {
		return 0, 0, err
	}
	limit := time.After(patience)
	for announced <= 0 {
		select {
		case at := <-seen:
			announced = at.Sub(began) // an owner announces itself now and then, before as well
		case <-limit:
			return 0, 0, fmt.Errorf("nobody announced %s within %s", c.address, patience)
		case <-c.ctx.Done():
			return 0, 0, c.ctx.Err()
		}
	}
	if err := c.answers(c.endpoint); err != nil {
		return 0, 0, err
	}
	answered = time.Since(began)
	if o.undo != nil {
		err = o.undo(c, owner)
	}
	return announced, answered, err
}

// announcements delivers when gratuitous ARP for an address reached the station on a port,
// until forget is called. What nobody takes for long is lost.
func announcements(port *ethernet.Port, address netip.Addr) (seen <-chan time.Time, forget func()) {
	times := make(chan time.Time, 16)
	return times, port.Tap(func(s ethernet.Seen) {
		a, ok := ethernet.ParseARP(s.Frame)
		if !ok || s.Direction != ethernet.ToStation || !a.Gratuitous() || a.SenderIP != address {
			return
		}
		select {
		case times <- s.At:
		default:
		}
	})
}

// killKeepalived asks the machine itself. The agent says so right before it does it.
func (c *clusterVIP) killKeepalived(m *vm.Member) (at time.Time, err error) {
	conn, err := c.fleet.Gateway.Dial(c.ctx, net.JoinHostPort(m.Host.Address.String(), strconv.Itoa(agentPort)))
	if err != nil {
		return at, err
	}
	var said string
	if err := ask(conn, askKill, func(line string) { at, said = time.Now(), line }); err != nil {
		return at, err
	}
	var pid int
	if _, err := fmt.Sscanf(said, "killing %d", &pid); err != nil || pid < 2 {
		return at, fmt.Errorf("the machine says %q instead of which process it kills", said)
	}
	return at, nil
}

// calm waits until one machine owns the address and the API answers on every control plane,
// and for a moment more.
func (c *clusterVIP) calm() (owner *vm.Member, err error) {
	for _, m := range c.fleet.Members {
		if m.Host.Role != node.ControlPlane {
			continue
		}
		if err := c.answers(net.JoinHostPort(m.Host.Address.String(), strconv.Itoa(c.apiPort))); err != nil {
			return nil, err
		}
	}
	err = c.until("one machine has "+c.address.String(), func(ctx context.Context) error {
		macs, err := c.fleet.Switch.WhoHas(ctx, c.address, 2*time.Second)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(c.fleet.Members, func(m *vm.Member) bool { return slices.Contains(macs, m.Host.MAC) })
		if len(macs) != 1 || i < 0 {
			return fmt.Errorf("it is claimed by %v", macs)
		}
		owner = c.fleet.Members[i]
		return nil
	})
	if err != nil {
		return nil, err
	}
	return owner, c.pause(calm)
}

// answers waits until the API answers at an address.
func (c *clusterVIP) answers(address string) error {
	return c.until("the API answers at "+address, func(ctx context.Context) error { return c.fleet.Ask(ctx, address, "/readyz") })
}

// until repeats something until it succeeds, and says now and then why it does not.
func (c *clusterVIP) until(what string, check func(context.Context) error) error {
	began, said := time.Now(), time.Now()
	for {
		ctx, cancel := context.WithTimeout(c.ctx, 30*time.Second)
		err := check(ctx)
		cancel()
		if err == nil {
			return nil
		}
		if time.Since(began) > patience {
			return fmt.Errorf("%s: not within %s: %w", what, patience, err)
		}
		if time.Since(said) > 20*time.Second {
			said = time.Now()
			c.say("waiting until %s: %v", what, err)
		}
		if err := c.pause(50 * time.Millisecond); err != nil {
			return err
		}
	}
}

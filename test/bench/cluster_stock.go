// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/builder/vm/ethernet"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
	"github.com/imgbuild/imgbuild/test/stock"
)

// stockNetwork is the segment of stock machines; the address is the gateway's.
var stockNetwork = netip.MustParsePrefix("10.53.0.1/24")

// stockMedia prepares what stock machines are given, once.
func (b *bench) stockMedia() (*stock.Media, error) {
	if b.media != nil {
		return b.media, nil
	}
	b.say("preparing stock machines: kubeadm and image archives")
	var err error
	b.media, err = stock.Prepare(b.ctx, b.root, b.image, filepath.Join(b.output, "stock"), b.component)
	return b.media, err
}

// stockCluster boots machines once, of which the first runs kubeadm init and the others kubeadm
// join as control planes, and measures until all nodes are Ready, as of ours; a join may need
// longer than that, or never come to its end. All are switched on at the same moment and import
// their images. The
// second asks until the cluster that it is to join answers, so no time passes between that and
// the join; each further one joins when the API lists the node before it. Two joins at once are
// a gamble on slow machines: etcd has no quorum while the member of one of them starts, and
// kubeadm gives up the other when it cannot list the members within 2 s. The first machine's
// address is the endpoint.
func (b *bench) stockCluster(qemu *tool.Set, count int) (r booted, err error) {
	media, err := b.stockMedia()
	if err != nil {
		return r, err
	}
	dir := filepath.Join(b.dir, "stock")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return r, err
	}
	o, join, err := stockFleet(dir, count)
	if err != nil {
		return r, err
	}
	o.Machine.Disks = []string{media.Disk}
	o.Timeout = 2 * bootLimit
	f, err := b.powerOn(qemu, power{title: fmt.Sprintf("stock kubeadm, %d control planes", count), FleetOptions: o, lenient: true,
		finished: func(e vm.Event) bool {
			return e.Kind == vm.Mark && (e.Name == stock.InitMark || e.Name == stock.JoinMark)
		},
		beside: func(ctx context.Context, r *running) error { return joinInTurn(ctx, r, join) },
	})
	if err != nil {
		return r, err
	}
	f.Close()
	return f.booted, nil
}

// joinInTurn lets the third machine join when the second is a node, and so on.
func joinInTurn(ctx context.Context, r *running, join stock.Join) error {
	for i, m := range r.Members[min(2, len(r.Members)):] {
		before := r.Members[i+1].Host
		for r.Ask(ctx, join.Endpoint, "/api/v1/nodes/"+before.Name) != nil {
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		agent := stock.Agent{Dial: r.Gateway.Dial, Name: m.Host.Name, Address: m.Host.Address}
		if err := agent.Await(ctx); err != nil {
			return err
		}
		if _, err := agent.Do(ctx, join); err != nil {
			return fmt.Errorf("kubeadm join: %w", err)
		}
		r.finish(time.Since(r.Started))
	}
	return nil
}

// stockFleet describes the machines, and how one joins the first. The authority is made in
// advance, so that the others and the host know it; kubeadm makes everything else.
func stockFleet(dir string, count int) (o vm.FleetOptions, join stock.Join, err error) {
	authority, pin, err := stockAuthority()
	if err != nil {
		return o, join, err
	}
	id, secret, key := hexadecimal(3), hexadecimal(8), hexadecimal(32)
	address := stockNetwork.Addr()
	for range 100 {
		address = address.Next()
	}
	endpoint := netip.AddrPortFrom(address, apiPort).String()
	join = stock.Join{Endpoint: endpoint, Token: id + "." + secret, CAHashes: []string{pin}, ControlPlane: true, CertificateKey: key, Resumes: 5}
	for i := range count {
		m := stock.Machine{Name: fmt.Sprintf("cp-%d", i+1), Address: address, PodRange: podRange(i)}
		switch i {
		case 0:
			m.Step, m.Files = stock.Init{Endpoint: endpoint, Token: join.Token, CertificateKey: key}, authority
		case 1:
			m.Step = join
		}
		host := vm.FleetHost{Name: m.Name, Role: node.ControlPlane, MAC: ethernet.MAC{0x52, 0x54, 0, 0, 0, byte(i + 1)},
			Address: address, DHCP: true, Ignition: filepath.Join(dir, m.Name+".ign")}
		guest, err := m.Guest()
		if err != nil {
			return o, join, err
		}
		config, err := guest.Ignition()
		if err != nil {
			return o, join, err
		}
		if err := os.WriteFile(host.Ignition, config, 0o600); err != nil {
			return o, join, err
		}
		if i == 0 {
			o.Kubeconfig = filepath.Join(dir, "admin.conf")
			if err := vm.WriteAdmin(o.Kubeconfig, config, endpoint); err != nil {
				return o, join, err
			}
		}
		o.Hosts = append(o.Hosts, host)
		address = address.Next()
	}
	o.Network, o.API, o.Dir = stockNetwork, []string{endpoint}, filepath.Join(dir, "run")
	return o, join, nil
}

// stockAuthority makes the cluster's authority and its pin.
func stockAuthority() (files []vm.GuestFile, pin string, err error) {
	if files, err = vm.ClusterCA(time.Now()); err != nil {
		return nil, "", err
	}
	for _, f := range files {
		if f.Path == kubeadm.PKIDir+"/"+pki.CA+".crt" {
			cert, err := pki.ParseCert(f.Data)
			if err != nil {
				return nil, "", err
			}
			return files, pki.Pin(cert), nil
		}
	}
	return nil, "", fmt.Errorf("the authority's files lack %s.crt", pki.CA)
}

// hexadecimal returns n random bytes.
func hexadecimal(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

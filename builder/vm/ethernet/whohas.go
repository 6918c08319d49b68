// SPDX-License-Identifier: Apache-2.0

package ethernet

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Question returns the frame in which sender asks everyone who has the address target. With
// an unspecified from it is a probe, which tells nobody anything about the sender (RFC 5227).
func Question(sender MAC, from, target netip.Addr) Frame {
	f := make(Frame, 0, headerSize+arpSize)
	f = append(append(f, Broadcast[:]...), sender[:]...)
	f = binary.BigEndian.AppendUint16(f, TypeARP)
	f = append(append(f, 0, 1, 8, 0, 6, 4, 0, arpRequest), sender[:]...)
	f = append(append(f, from.AsSlice()...), make([]byte, 6)...)
	return append(f, target.AsSlice()...)
}

// prober is the sender of probes; locally administered.
var prober = MAC{0x02, 0, 0, 0, 0, 0xfe}

// WhoHas asks for an IPv4 address until wait has passed, or ctx ends, and returns everyone who
// claims it, by hardware address. More than one is a conflict.
func (s *Switch) WhoHas(ctx context.Context, address netip.Addr, wait time.Duration) ([]MAC, error) {
	var mu sync.Mutex
	var found []MAC
	p, err := s.Attach("who has "+address.String(), func(f Frame) {
		a, ok := ParseARP(f)
		mu.Lock()
		defer mu.Unlock()
		if ok && a.SenderIP == address && !slices.Contains(found, a.SenderMAC) {
			found = append(found, a.SenderMAC)
		}
	})
	if err != nil {
		return nil, err
	}
	defer p.Close()
	end := time.NewTimer(wait)
	defer end.Stop()
	for {
		p.Send(Question(prober, netip.IPv4Unspecified(), address))
		select {
		case <-time.After(min(wait, time.Second)):
			continue
		case <-end.C:
		case <-ctx.Done():
		}
		mu.Lock()
		defer mu.Unlock()
		slices.SortFunc(found, func(a, b MAC) int { return slices.Compare(a[:], b[:]) })
		return slices.Clone(found), ctx.Err()
	}
}

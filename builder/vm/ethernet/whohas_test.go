// SPDX-License-Identifier: Apache-2.0

package ethernet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gopacket/gopacket/layers"
)

func TestQuestion(t *testing.T) {
	for _, sender := range []string{"10.0.0.1", "0.0.0.0"} {
		want := arp(t, layers.ARPRequest, sender, "10.0.0.2")
		if got := Question(mac(1), netip.MustParseAddr(sender), netip.MustParseAddr("10.0.0.2")); !bytes.Equal(got, want[:len(got)]) {
			t.Errorf("% x\nwant % x", got, want)
		}
	}
}

// claim makes a station that answers for an address.
func claim(t *testing.T, s *Switch, m MAC, a netip.Addr) *Port {
	t.Helper()
	var p *Port
	p, err := s.Attach(m.String(), func(f Frame) {
		if q, ok := ParseARP(f); ok && q.Request && q.TargetIP == a {
			reply := Question(m, a, q.SenderIP)
			copy(reply, q.SenderMAC[:])
			binary.BigEndian.PutUint16(reply[arpOperation:], arpReply)
			p.Send(reply)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWhoHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{})
		defer s.Close()
		a := netip.MustParseAddr("10.0.0.9")
		ask := func(want ...MAC) {
			t.Helper()
			if got, err := s.WhoHas(t.Context(), a, 3*time.Second); err != nil || !slices.Equal(got, want) {
				t.Errorf("%v %v, want %v", got, err, want)
			}
		}
		ask()
		two := claim(t, s, mac(2), a)
		ask(mac(2))
		claim(t, s, mac(1), a)
		ask(mac(1), mac(2))
		two.Cut()
		ask(mac(1))
	})
}

// SPDX-License-Identifier: Apache-2.0

package ethernet

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// build makes a frame with the independent library.
func build(t *testing.T, parts ...gopacket.SerializableLayer) Frame {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...); err != nil {
		t.Fatal(err)
	}
	return Frame(b.Bytes())
}

func arp(t *testing.T, operation uint16, sender, target string) Frame {
	src := mac(1)
	from, to := netip.MustParseAddr(sender).As4(), netip.MustParseAddr(target).As4()
	return build(t, &layers.Ethernet{SrcMAC: src[:], DstMAC: Broadcast[:], EthernetType: layers.EthernetTypeARP},
		&layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: operation, SourceHwAddress: src[:], SourceProtAddress: from[:], DstHwAddress: make([]byte, 6), DstProtAddress: to[:]})
}

func TestARP(t *testing.T) {
	for _, c := range []struct {
		name                          string
		operation                     uint16
		sender, target                string
		request, announce, gratuitous bool
	}{
		{"question", layers.ARPRequest, "10.0.0.1", "10.0.0.2", true, true, false},
		{"answer", layers.ARPReply, "10.0.0.1", "10.0.0.2", false, true, false},
		{"announcement", layers.ARPRequest, "10.0.0.9", "10.0.0.9", true, true, true},
		{"announcement as reply", layers.ARPReply, "10.0.0.9", "10.0.0.9", false, true, true},
		{"probe", layers.ARPRequest, "0.0.0.0", "10.0.0.9", true, false, false},
	} {
		f := arp(t, c.operation, c.sender, c.target)
		a, ok := ParseARP(f)
		if !ok || a.Request != c.request || a.SenderMAC != mac(1) || a.SenderIP.String() != c.sender || a.TargetIP.String() != c.target {
			t.Errorf("%s: %+v %v", c.name, a, ok)
		}
		if a.Announces() != c.announce || a.Gratuitous() != c.gratuitous {
			t.Errorf("%s: announces %v, gratuitous %v", c.name, a.Announces(), a.Gratuitous())
		}
		own := netip.MustParseAddr("10.0.0.7")
		want := a
		if c.gratuitous {
			want.Request, want.TargetIP = true, own
		}
		if got, _ := ParseARP(AsQuestion(f, own)); got != want {
			t.Errorf("%s: AsQuestion makes %+v, want %+v", c.name, got, want)
		}
		if now, _ := ParseARP(f); now != a {
			t.Errorf("%s: AsQuestion changed the frame it was given", c.name)
		}
		if _, ok := ParseVRRP(f); ok {
			t.Errorf("%s: taken for VRRP", c.name)
		}
		if _, ok := ParseARP(f[:headerSize+arpSize-1]); ok {
			t.Errorf("%s: a cut message is accepted", c.name)
		}
	}
}

func TestVRRP(t *testing.T) {
	src := mac(1)
	advert := []byte{0x31, 51, 150, 1, 0, 100, 0, 0, 10, 0, 0, 9} // version 3, router 51, priority 150
	ip := &layers.IPv4{Version: 4, TTL: 255, Protocol: layers.IPProtocolVRRP, SrcIP: net.IPv4(10, 0, 0, 1), DstIP: net.IPv4(10, 0, 0, 2)}
	f := build(t, &layers.Ethernet{SrcMAC: src[:], DstMAC: Broadcast[:], EthernetType: layers.EthernetTypeIPv4}, ip, gopacket.Payload(advert))
	v, ok := ParseVRRP(f)
	want := VRRP{Source: netip.MustParseAddr("10.0.0.1"), Destination: netip.MustParseAddr("10.0.0.2"), Version: 3, Router: 51, Priority: 150}
	if !ok || v != want {
		t.Errorf("%+v %v, want %+v", v, ok, want)
	}
	ip.Protocol = layers.IPProtocolTCP
	if _, ok := ParseVRRP(build(t, &layers.Ethernet{SrcMAC: src[:], DstMAC: Broadcast[:], EthernetType: layers.EthernetTypeIPv4}, ip, gopacket.Payload(advert))); ok {
		t.Error("TCP is taken for VRRP")
	}
	if _, ok := ParseVRRP(f[:headerSize+20+7]); ok {
		t.Error("a cut advertisement is accepted")
	}
}

// What Capture writes, another implementation reads.
func TestCapture(t *testing.T) {
	var file bytes.Buffer
	c := NewCapture(&file)
	at := time.Unix(1_700_000_000, 123_456_789).UTC()
	frames := []Frame{frame(mac(1), mac(2), "first"), arp(t, layers.ARPRequest, "10.0.0.1", "10.0.0.2")}
	for i, f := range frames {
		c.See(Seen{At: at.Add(time.Duration(i)), Frame: f})
	}
	if c.Err() != nil {
		t.Fatal(c.Err())
	}
	r, err := pcapgo.NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	if r.LinkType() != layers.LinkTypeEthernet {
		t.Errorf("link type %v", r.LinkType())
	}
	for i, f := range frames {
		data, info, err := r.ReadPacketData()
		if err != nil || !bytes.Equal(data, f) || !info.Timestamp.Equal(at.Add(time.Duration(i))) || info.Length != len(f) {
			t.Errorf("packet %d: %d bytes, %+v, %v", i, len(data), info, err)
		}
	}
	if _, _, err := r.ReadPacketData(); err != io.EOF {
		t.Errorf("after the last packet: %v", err)
	}

	full := NewCapture(failing{})
	full.See(Seen{Frame: frames[0]})
	if !errors.Is(full.Err(), io.ErrShortWrite) {
		t.Errorf("a failed write is reported as %v", full.Err())
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

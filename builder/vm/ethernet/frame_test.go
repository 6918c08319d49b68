// SPDX-License-Identifier: Apache-2.0

package ethernet

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"testing"
)

// frame makes a frame of the least interesting type.
func frame(dst, src MAC, payload string) Frame {
	f := append(append(Frame(nil), dst[:]...), src[:]...)
	return append(append(f, 0x88, 0xb5), payload...)
}

func mac(last byte) MAC { return MAC{0x52, 0x54, 0, 0, 0, last} }

func TestReadFrame(t *testing.T) {
	long := make(Frame, MaxFrame)
	stream := AppendFrame(AppendFrame(AppendFrame(nil, frame(mac(1), mac(2), "a")), Frame{}), long)
	if want := []byte{0, 0, 0, 15}; !bytes.Equal(stream[:4], want) {
		t.Fatalf("the length is written as % x, want % x", stream[:4], want)
	}
	r := bytes.NewReader(stream)
	for i, want := range []Frame{frame(mac(1), mac(2), "a"), {}, long} {
		if got, err := ReadFrame(r); err != nil || !bytes.Equal(got, want) {
			t.Errorf("frame %d: %d bytes, %v; want %d bytes", i, len(got), err, len(want))
		}
	}
	if _, err := ReadFrame(r); err != io.EOF {
		t.Errorf("between frames the end is %v", err)
	}
	for _, c := range []struct {
		name, stream string
		want         error
	}{
		{"torn length", "\x00\x00", io.ErrUnexpectedEOF},
		{"torn frame", "\x00\x00\x00\x04abc", io.ErrUnexpectedEOF},
		{"no payload", "\x00\x00\x00\x04", io.ErrUnexpectedEOF},
		{"one too long", "\x00\x01\x10\x01", ErrFrame},
		{"text", "GET / HTTP/1.1\r\n", ErrFrame},
	} {
		if _, err := ReadFrame(bytes.NewReader([]byte(c.stream))); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestParseMAC(t *testing.T) {
	if m, err := ParseMAC("52:54:00:AB:cd:01"); err != nil || m != (MAC{0x52, 0x54, 0, 0xab, 0xcd, 1}) || m.String() != "52:54:00:ab:cd:01" {
		t.Errorf("%v %v", m, err)
	}
	for _, bad := range []string{"", "52:54:00:ab:cd", "52:54:00:ab:cd:0g", "02:00:5e:10:00:00:00:01"} {
		if _, err := ParseMAC(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// FuzzReadFrame reads anything: what comes out, written again, is what was read.
func FuzzReadFrame(f *testing.F) {
	f.Add(AppendFrame(AppendFrame(nil, frame(mac(1), Broadcast, "x")), Frame("short")))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bytes.NewReader(stream)
		var again []byte
		for {
			fr, err := ReadFrame(r)
			if err != nil {
				break
			}
			again = AppendFrame(again, fr)
			ParseARP(fr)
			ParseVRRP(fr)
			if len(AsQuestion(fr, netip.AddrFrom4([4]byte{10, 0, 0, 7}))) != len(fr) {
				t.Error("AsQuestion changes the length")
			}
		}
		if !bytes.HasPrefix(stream, again) {
			t.Errorf("% x reads as % x", stream, again)
		}
	})
}

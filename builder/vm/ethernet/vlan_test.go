// SPDX-License-Identifier: Apache-2.0

package ethernet

import (
	"bytes"
	"testing"
)

func TestTrunk(t *testing.T) {
	segment(t, Options{}, func(t *testing.T, _ *Switch, a, b, c *station) {
		b.Trunk(100)
		a.Send(frame(Broadcast, mac(1), "to all"))
		// A trunk's payload is what follows the type of the tag.
		b.want(t, "\x00\x64\x88\xb5to all")
		c.want(t, "to all")

		b.Send(frame(Broadcast, mac(2), "untagged").tag(100))
		a.want(t, "untagged")
		c.want(t, "untagged")
		a.Send(frame(mac(2), mac(1), "to b alone"))
		b.want(t, "\x00\x64\x88\xb5to b alone")
		c.want(t)

		b.Send(frame(Broadcast, mac(2), "of another"))
		b.Send(frame(Broadcast, mac(2), "of another").tag(101))
		b.Send(frame(Broadcast, mac(2), "")[:13])
		a.want(t)

		b.Trunk(0)
		a.Send(frame(mac(2), mac(1), "plain"))
		b.want(t, "plain")
	})
}

func TestTag(t *testing.T) {
	f := frame(mac(1), mac(2), "payload")
	// Priority 5 and drop eligibility do not belong to the identifier.
	f2 := f.tag(0x123)
	f2[14] |= 0xb0
	got, ok := f2.untag()
	if !ok || got.id != 0x123 || !bytes.Equal(got.frame, f) {
		t.Errorf("%v %x %q", ok, got.id, got.frame)
	}
	if _, ok := f.untag(); ok {
		t.Error("a frame without a tag has one")
	}
	if _, ok := f2[:17].untag(); ok {
		t.Error("a frame that ends in its tag has one")
	}
}

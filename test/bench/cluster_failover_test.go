// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/vm/ethernet"
)

// Only gratuitous ARP for the address counts, and not that of whoever watches.
func TestAnnouncements(t *testing.T) {
	s := ethernet.New(ethernet.Options{})
	defer s.Close()
	arrived := make(chan bool, 8)
	watcher, err := s.Attach("watcher", func(ethernet.Frame) { arrived <- true })
	if err != nil {
		t.Fatal(err)
	}
	owner, err := s.Attach("owner", func(ethernet.Frame) {})
	if err != nil {
		t.Fatal(err)
	}
	vip, other := netip.MustParseAddr("10.0.0.100"), netip.MustParseAddr("10.0.0.7")
	mac := ethernet.MAC{0x52, 0x54, 0, 0, 0, 1}
	seen, forget := announcements(watcher, vip)
	send := func(from, target netip.Addr) {
		owner.Send(ethernet.Question(mac, from, target))
		<-arrived
	}
	send(other, vip)   // asks for it
	send(vip, other)   // has it, and asks for another
	send(other, other) // announces another
	watcher.Send(ethernet.Question(ethernet.MAC{0x52, 0x54, 0, 0, 0, 2}, vip, vip))
	if len(seen) != 0 {
		t.Errorf("%d announcements before there was one", len(seen))
	}
	began := time.Now()
	send(vip, vip)
	if at := <-seen; at.Before(began) {
		t.Errorf("seen %s before it was sent", began.Sub(at))
	}
	forget()
	send(vip, vip)
	if len(seen) != 0 {
		t.Error("seen after it was to be forgotten")
	}
}

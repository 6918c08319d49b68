// SPDX-License-Identifier: Apache-2.0

package vbox

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"testing"
)

// The bytes were written down from the structures in linux/vboxguest.h, on a little-endian
// machine: header (size_in, version, type, rc, size_out, reserved), then the call.
func TestCallLayout(t *testing.T) {
	c := newCall(7, getProperty, 2)
	c.parameterType(0, typeUint64)
	c.parameterType(1, typeUint32)
	const want = "48000000" + "01000100" + "00000000" + "00000000" + "48000000" + "00000000" +
		"07000000" + "01000000" + "ffffffff" + "01" + "00" + "0200" +
		"02000000" + "000000000000000000000000" +
		"01000000" + "000000000000000000000000"
	if got := hex.EncodeToString(c.msg); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestBufferParameter(t *testing.T) {
	c := newCall(1, deleteProperty, 1)
	defer c.pins.Unpin()
	c.buffer(0, typeBufferIn, cString("/a"))
	if got := hex.EncodeToString(c.msg[callSize : callSize+8]); got != "0500000003000000" {
		t.Errorf("type and size are %s", got)
	}
	if hex.EncodeToString(c.msg[callSize+8:]) == "0000000000000000" {
		t.Error("the address is missing")
	}
}

func TestNoDevice(t *testing.T) {
	if _, err := os.Stat("/dev/vboxguest"); err == nil {
		t.Skip("this machine is a VirtualBox guest")
	}
	if _, err := Get("/Ignition/Config"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that the device does not exist", err)
	}
}

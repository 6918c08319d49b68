// SPDX-License-Identifier: Apache-2.0

// Package vbox reads and deletes VirtualBox guest properties through /dev/vboxguest. The
// structures are those of the kernel's linux/vboxguest.h and linux/vbox_vmmdev_types.h, laid out
// here as bytes because they are packed; the service is VirtualBox's GuestPropertySvc.
package vbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers of linux/vbox_err.h that mean something here.
const (
	success          = 0
	permissionDenied = -38
	bufferOverflow   = -41
	notFound         = -78
)

// Functions of the guest property service.
const (
	getProperty    = 1
	deleteProperty = 4
)

// Types of parameters of a call to a host service.
const (
	typeUint32    = 1
	typeUint64    = 2
	typeBuffer    = 4 // read and written by the host
	typeBufferIn  = 5 // read by the host
	headerSize    = 24
	callSize      = headerSize + 16
	parameterSize = 16
)

// Error is a status that the host or the driver reported.
type Error int32

func (e Error) Error() string {
	if e == permissionDenied {
		return "permission denied; is the property read-only?"
	}
	return fmt.Sprintf("error %d", int32(e))
}

// Get returns the value of a property, or nil when it does not exist.
func Get(name string) ([]byte, error) {
	var value []byte
	err := session(func(fd int, client uint32) error {
		// Ask for the size first: with too small a buffer the host only tells that.
		value = make([]byte, 1)
		for range 4 { // the value may grow between two calls
			need, err := get(fd, client, name, value)
			switch {
			case err == nil:
				value = value[:min(need, uint32(len(value)))]
				return nil
			case errors.Is(err, Error(notFound)):
				value = nil
				return nil
			case !errors.Is(err, Error(bufferOverflow)):
				return err
			}
			value = make([]byte, need)
		}
		return errors.New("the value keeps growing")
	})
	if err != nil {
		return nil, fmt.Errorf("fetching VirtualBox guest property %q: %w", name, err)
	}
	if value == nil {
		return nil, nil
	}
	data, _, ok := bytes.Cut(value, []byte{0}) // the value, NUL, flags, NUL
	if !ok {
		return nil, fmt.Errorf("VirtualBox guest property %q is not NUL-terminated", name)
	}
	return data, nil
}

// Delete removes a property.
func Delete(name string) error {
	err := session(func(fd int, client uint32) error {
		p := newCall(client, deleteProperty, 1)
		defer p.pins.Unpin()
		p.buffer(0, typeBufferIn, cString(name))
		return p.do(fd)
	})
	if err != nil {
		return fmt.Errorf("deleting VirtualBox guest property %q: %w", name, err)
	}
	return nil
}

func get(fd int, client uint32, name string, value []byte) (need uint32, err error) {
	p := newCall(client, getProperty, 4)
	defer p.pins.Unpin()
	p.buffer(0, typeBufferIn, cString(name))
	p.buffer(1, typeBuffer, value)
	p.parameterType(2, typeUint64) // when it was set
	p.parameterType(3, typeUint32) // the size of value and flags
	err = p.do(fd)
	return binary.NativeEndian.Uint32(p.msg[callSize+3*parameterSize+4:]), err
}

func cString(s string) []byte { return append([]byte(s), 0) }

// session connects to the service, runs f and disconnects.
func session(f func(fd int, client uint32) error) error {
	fd, err := unix.Open("/dev/vboxguest", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: "/dev/vboxguest", Err: err}
	}
	defer unix.Close(fd)

	version := message(16, 20)
	binary.NativeEndian.PutUint32(version[headerSize:], 0x00010000)   // wanted
	binary.NativeEndian.PutUint32(version[headerSize+4:], 0x00010000) // at least
	if err := ioctl(fd, 0, version); err != nil {
		return fmt.Errorf("driver version: %w", err)
	}
	connect := message(132, 4)
	binary.NativeEndian.PutUint32(connect[headerSize:], 2) // a service of the host, by name
	copy(connect[headerSize+4:], "VBoxGuestPropSvc")
	if err := ioctl(fd, 4, connect); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	client := binary.NativeEndian.Uint32(connect[headerSize:])
	err = f(fd, client)
	disconnect := message(4, 0)
	binary.NativeEndian.PutUint32(disconnect[headerSize:], client)
	if e := ioctl(fd, 5, disconnect); err == nil && e != nil {
		err = fmt.Errorf("disconnect: %w", e)
	}
	return err
}

// message returns a header and room for a union of that many bytes in and out.
func message(in, out int) []byte {
	b := make([]byte, headerSize+max(in, out))
	ne := binary.NativeEndian
	ne.PutUint32(b[0:], uint32(headerSize+in))
	ne.PutUint32(b[4:], 0x10001) // version of the header
	ne.PutUint32(b[16:], uint32(headerSize+out))
	return b
}

// call is one request to the service.
type call struct {
	msg  []byte
	pins runtime.Pinner // the kernel gets addresses of Go memory
}

func newCall(client, function uint32, parameters int) *call {
	body := callSize - headerSize + parameters*parameterSize
	c := &call{msg: message(body, body)}
	ne := binary.NativeEndian
	ne.PutUint32(c.msg[headerSize:], client)
	ne.PutUint32(c.msg[headerSize+4:], function)
	ne.PutUint32(c.msg[headerSize+8:], 0xffffffff) // wait without a limit
	c.msg[headerSize+12] = 1                       // interruptible
	ne.PutUint16(c.msg[headerSize+14:], uint16(parameters))
	return c
}

func (c *call) parameterType(i int, kind uint32) []byte {
	p := c.msg[callSize+i*parameterSize:][:parameterSize]
	binary.NativeEndian.PutUint32(p, kind)
	return p
}

func (c *call) buffer(i int, kind uint32, b []byte) {
	c.pins.Pin(&b[0])
	p := c.parameterType(i, kind)
	binary.NativeEndian.PutUint32(p[4:], uint32(len(b)))
	binary.NativeEndian.PutUint64(p[8:], uint64(uintptr(unsafe.Pointer(&b[0]))))
}

func (c *call) do(fd int) error { return ioctl(fd, 7, c.msg) }

// ioctl sends _IOWR('V', number, message) and returns the status in the header.
func ioctl(fd int, number uintptr, msg []byte) error {
	request := uintptr(3)<<30 | uintptr(len(msg))<<16 | 'V'<<8 | number
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&msg[0])))
	if errno != 0 {
		return errno
	}
	if rc := int32(binary.NativeEndian.Uint32(msg[12:])); rc != success {
		return Error(rc)
	}
	return nil
}

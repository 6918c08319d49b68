// SPDX-License-Identifier: Apache-2.0

package ethernet

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
)

// Listen adds a port behind a Unix socket at path, made with mode 0600. One station is
// connected at a time; a new connection takes the place of an earlier one, so a machine that
// is started again finds its link. A stream that does not carry frames is closed.
//
// path may be longer than a socket address holds: the socket is made through a descriptor of
// its directory. Whoever connects has to start from that directory.
func (s *Switch) Listen(name, path string) (*Port, error) {
	listener, err := listenUnix(path)
	if err != nil {
		return nil, fmt.Errorf("port %s: %w", name, err)
	}
	k := &socket{listener: listener}
	p, err := s.attach(name, k.deliver, func(p *Port) {
		k.port = p
		p.closing = func() { k.close(); _ = os.Remove(path) }
		p.running.Go(k.accept)
	})
	if err != nil {
		listener.Close()
		return nil, err
	}
	return p, nil
}

func listenUnix(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	address := &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))}
	l, err := net.ListenUnix("unix", address)
	if err != nil {
		return nil, fmt.Errorf("making the socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false) // its name is only good while dir is open
	return l, os.Chmod(path, 0o600)
}

// socket connects a port to whoever dials it.
type socket struct {
	port     *Port
	listener *net.UnixListener

	mu     sync.Mutex
	conn   net.Conn
	closed bool
	buf    []byte // of deliver, which is called one at a time
}

func (k *socket) accept() {
	var reader sync.WaitGroup
	defer reader.Wait()
	for {
		conn, err := k.listener.Accept()
		if err != nil {
			return // closed
		}
		if !k.use(conn) {
			return
		}
		reader.Go(func() { k.read(conn) })
	}
}

// use makes conn the connection of the port.
func (k *socket) use(conn net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conn != nil {
		k.conn.Close()
	}
	if k.closed {
		conn.Close()
		return false
	}
	k.conn = conn
	return true
}

// read gives the switch what the station sends, until the connection ends.
func (k *socket) read(conn net.Conn) {
	r := bufio.NewReaderSize(conn, 128<<10)
	for {
		f, err := ReadFrame(r)
		if err != nil {
			break
		}
		k.port.Send(f)
	}
	conn.Close()
	k.mu.Lock()
	current := k.conn == conn
	if current {
		k.conn = nil
	}
	k.mu.Unlock()
	if current {
		k.port.sw.forget(k.port)
	}
}

// deliver writes a frame to the station, if there is one. It waits as long as the station
// does not read, and nobody but this station's queue waits with it.
func (k *socket) deliver(f Frame) {
	k.mu.Lock()
	conn := k.conn
	k.mu.Unlock()
	if conn == nil {
		return
	}
	k.buf = AppendFrame(k.buf[:0], f)
	if _, err := conn.Write(k.buf); err != nil {
		conn.Close() // half a frame may be written; read notices
	}
}

func (k *socket) close() {
	k.listener.Close()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if k.conn != nil {
		k.conn.Close()
	}
}

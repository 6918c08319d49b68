// SPDX-License-Identifier: Apache-2.0

package ethernet

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// dial connects to a port as QEMU does, starting from the socket's directory when its name is
// too long.
func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	conn, err := net.Dial("unix", "/proc/self/fd/"+strconv.Itoa(int(dir.Fd()))+"/"+filepath.Base(path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	// A hang is a failure; nothing below waits this long.
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func send(t *testing.T, conn net.Conn, f Frame) {
	t.Helper()
	if _, err := conn.Write(AppendFrame(nil, f)); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	f, err := ReadFrame(conn)
	if err != nil || string(f.Payload()) != want {
		t.Fatalf("received %q, %v; want %q", f, err, want)
	}
}

// hello makes the switch know a station, as seen by another one.
func hello(t *testing.T, from, to net.Conn, src MAC) {
	t.Helper()
	send(t, from, frame(Broadcast, src, "hello "+src.String()))
	receive(t, to, "hello "+src.String())
}

func TestSockets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := New(Options{})
	defer s.Close()
	one, err := s.Listen("one", filepath.Join(dir, "1.sock"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Listen("two", filepath.Join(dir, "2.sock")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "1.sock")); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the socket: %v %v", info, err)
	}
	a, b := dial(t, filepath.Join(dir, "1.sock")), dial(t, filepath.Join(dir, "2.sock"))
	// b is connected once it has sent something that arrives.
	for {
		send(t, b, frame(Broadcast, mac(2), "b is here"))
		_ = a.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := ReadFrame(a); err == nil {
			break
		} else if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
	_ = a.SetReadDeadline(time.Now().Add(time.Minute))
	hello(t, a, b, mac(1))
	send(t, a, frame(mac(2), mac(1), "unicast"))
	receive(t, b, "unicast")
	if s.Where(mac(1)) != one {
		t.Error("the station was not learned")
	}

	// The machine behind port one is killed and started again.
	a.Close()
	for s.Where(mac(1)) != nil {
		time.Sleep(time.Millisecond)
	}
	a = dial(t, filepath.Join(dir, "1.sock"))
	hello(t, a, b, mac(1))

	// A second one takes the link over.
	other := dial(t, filepath.Join(dir, "1.sock"))
	if _, err := ReadFrame(a); err != io.EOF {
		t.Errorf("the earlier connection ends with %v", err)
	}
	hello(t, other, b, mac(3))

	// What is not a stream of frames is hung up on.
	if _, err := other.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Read(make([]byte, 1)); err == nil {
		t.Error("the switch goes on with a stream of text")
	}
	s.Close()
	if _, err := ReadFrame(b); err == nil {
		t.Error("the switch is closed and its links are not")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A machine that is stopped in a debugger reads nothing; its port must close all the same.
func TestSocketNobodyReads(t *testing.T) {
	s := New(Options{})
	path := filepath.Join(t.TempDir(), "s")
	p, err := s.Listen("stuck", path)
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, path)
	send(t, conn, frame(Broadcast, mac(1), ""))
	for s.Where(mac(1)) == nil {
		time.Sleep(time.Millisecond)
	}
	from := attach(t, s, "from")
	big := strings.Repeat("x", 60<<10)
	for p.Counts().OutDropped == 0 {
		from.Send(frame(Broadcast, mac(2), big))
	}
	s.Close()
}

func TestListenErrors(t *testing.T) {
	s := New(Options{})
	if _, err := s.Listen("x", filepath.Join(t.TempDir(), "none", "s")); err == nil || !strings.Contains(err.Error(), "port x") {
		t.Errorf("no directory: %v", err)
	}
	s.Close()
	path := filepath.Join(t.TempDir(), "s")
	if _, err := s.Listen("x", path); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

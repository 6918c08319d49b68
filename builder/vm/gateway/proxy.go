// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// dialLimit bounds how long the proxy tries to connect.
const dialLimit = 15 * time.Second

// Proxy serves HTTP CONNECT (RFC 9110, 9.3.6) on a free port of the host's loopback address
// and returns its URL. A program that is told to use it, such as kubectl by proxy-url in its
// kubeconfig, speaks to machines under the addresses and certificates they have on the
// segment. It ends with the gateway.
func (g *Gateway) Proxy() (url string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	srv := &http.Server{Handler: http.HandlerFunc(g.tunnel), ReadHeaderTimeout: dialLimit}
	context.AfterFunc(g.ctx, func() { srv.Close() })
	g.running.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			l.Close()
		}
	})
	return "http://" + l.Addr().String(), nil
}

// tunnel serves one CONNECT.
func (g *Gateway) tunnel(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		w.Header().Set("Allow", http.MethodConnect)
		http.Error(w, "this proxy leads to a segment of virtual machines, by CONNECT only", http.StatusMethodNotAllowed)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), dialLimit)
	defer cancel()
	to, err := g.Dial(ctx, r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer to.Close()
	from, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer from.Close()
	if _, err := from.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n")); err != nil {
		return
	}
	// What the client sent too early is in the buffer.
	if early, _ := buffered.Peek(buffered.Reader.Buffered()); len(early) > 0 {
		if _, err := to.Write(early); err != nil {
			return
		}
	}
	join(g.ctx, from, to)
}

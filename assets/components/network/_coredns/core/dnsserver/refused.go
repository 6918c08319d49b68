// SPDX-License-Identifier: Apache-2.0

package dnsserver

import (
	"fmt"

	"github.com/coredns/caddy"
)

// NewServerQUIC fails: DNS over QUIC is not linked.
func NewServerQUIC(addr string, _ []*Config) (caddy.Server, error) { return refused(addr) }

// NewServerHTTPS3 fails: DNS over HTTP/3 is not linked.
func NewServerHTTPS3(addr string, _ []*Config) (caddy.Server, error) { return refused(addr) }

// NewServergRPC fails: DNS over gRPC is not linked.
func NewServergRPC(addr string, _ []*Config) (caddy.Server, error) { return refused(addr) }

func refused(addr string) (caddy.Server, error) {
	return nil, fmt.Errorf("%s cannot be served: this CoreDNS speaks DNS over UDP, TCP, TLS and HTTPS", addr)
}

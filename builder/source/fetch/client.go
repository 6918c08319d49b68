// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"net"
	"net/http"
	"time"
)

// NewClient returns an HTTP client for long downloads: it has no overall time limit (a
// transfer that stands still is ended by Options.Stall), honours the proxy variables of
// the environment, and reads file:// URLs.
func NewClient() *http.Client {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       30 * time.Second,
		TLSHandshakeTimeout:   15 * time.Second,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true,
	}
	t.RegisterProtocol("file", http.NewFileTransport(http.Dir("/")))
	return &http.Client{Transport: t}
}

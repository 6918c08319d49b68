// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
)

var (
	// errGone: the origin says it does not have the file.
	errGone = errors.New("the origin no longer serves it")
	// errWrong: what the origin serves cannot be what is pinned.
	errWrong = errors.New("not the pinned bytes")
	// errUnreachable: no connection to the origin.
	errUnreachable = errors.New("the origin cannot be reached")
	errStalled     = errors.New("the transfer stood still for too long")
	// errLocal: the failure is on this machine, so no other URL will help.
	errLocal = errors.New("cannot store the download")
)

// passing marks a failure that a later attempt may not meet.
type passing struct {
	err   error
	after time.Duration // what the origin asked us to wait
}

func (p *passing) Error() string { return p.err.Error() }
func (p *passing) Unwrap() error { return p.err }

func local(err error) error { return fmt.Errorf("%w: %w", errLocal, err) }

// transportError classifies what the HTTP client reports. All but a certificate that does
// not verify and a malformed URL may pass.
func transportError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
		return &passing{err: errStalled}
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // its text repeats the URL
	}
	var cert *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &cert) || errors.As(err, &unknown) || strings.Contains(err.Error(), "unsupported protocol scheme") {
		return err
	}
	var op *net.OpError
	var dns *net.DNSError
	if errors.As(err, &dns) || errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect") {
		return &passing{err: fmt.Errorf("%w: %w", errUnreachable, err)}
	}
	return &passing{err: err}
}

// statusError classifies an HTTP status that is not a success.
func statusError(resp *http.Response) error {
	err := fmt.Errorf("HTTP status %s", resp.Status)
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound, code == http.StatusGone:
		return fmt.Errorf("%w: %w", errGone, err)
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests, code >= 500:
		return &passing{err: err, after: retryAfter(resp.Header.Get("Retry-After"))}
	}
	return err
}

// retryAfter reads the delay in seconds an origin asks for, at most a minute. Dates, which
// RFC 9110 also allows, are left to the backoff.
func retryAfter(header string) time.Duration {
	seconds, err := strconv.Atoi(strings.TrimSpace(header))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(min(seconds, 60))*time.Second, time.Minute)
}

// redact takes a password out of a URL.
func redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "invalid URL"
	}
	return u.Redacted()
}

// report is the one error over all failed items, or nil. Its class is that of the gravest
// failure: wrong bytes, then pins that are gone, then the network.
func (r *run) report(items []Item) error {
	class, hint := fault.Network, "check the network, the proxy settings and the mirror, then run the same command again"
	var lines []string
	for _, it := range items {
		err := r.failed[it.SHA256]
		if err == nil {
			continue
		}
		lines = append(lines, describe(it)+": "+strings.ReplaceAll(text(err), "\n", "; "))
		switch {
		case fault.ClassOf(err) == fault.Digest || errors.Is(err, errWrong):
			class, hint = fault.Digest, "do not use this origin before you know why it serves other bytes; if the pin is out of date, run 'imgbuild lock'"
		case errors.Is(err, errGone) && class != fault.Digest:
			class, hint = fault.MissingPin, "run 'imgbuild lock' to resolve the pin again; it prints old and new versions side by side"
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return fault.New(class, hint, "%d of %d downloads failed:\n  %s", len(lines), len(items), strings.Join(lines, "\n  "))
}

// text returns the message of err without the hints of nested classified errors.
func text(err error) string {
	var f *fault.Error
	if errors.As(err, &f) {
		return f.Err.Error()
	}
	return err.Error()
}

func offlineError(items []Item) error {
	lines := make([]string, len(items))
	for i, it := range items {
		lines[i] = describe(it)
	}
	return fault.New(fault.Network, "run once with network access to fill the cache",
		"%d pinned files are not in the cache and the network is not to be used:\n  %s", len(items), strings.Join(lines, "\n  "))
}

func describe(it Item) string {
	if it.Size > 0 {
		return fmt.Sprintf("%s (%d bytes, SHA-256 %s)", it.Name, it.Size, it.SHA256)
	}
	return fmt.Sprintf("%s (SHA-256 %s)", it.Name, it.SHA256)
}

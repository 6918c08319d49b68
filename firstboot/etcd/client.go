// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/status"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

// LoadTLS reads a client certificate, its key and the authority from PEM files.
func LoadTLS(cert, key, ca string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("client certificate for etcd: %w", err)
	}
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", ca)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// Client changes the membership of a running cluster.
type Client struct {
	etcd *clientv3.Client
	// Report is told why the client waits, before every attempt after the first; may be nil.
	Report func(error)
	// Pause is slept after the first failure and doubled up to MaxPause.
	Pause, MaxPause time.Duration
	// Call bounds one call; a server without quorum lets it run out.
	Call time.Duration
}

// Dial returns a client of the members behind the endpoints (URLs); one that answers is enough.
func Dial(endpoints []string, cfg *tls.Config) (*Client, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, TLS: cfg, Logger: zap.NewNop(),
		DialTimeout: 5 * time.Second, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second,
		// gRPC's own pauses between attempts to connect grow to two minutes.
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: 5 * time.Second,
			Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}})}})
	if err != nil {
		return nil, fmt.Errorf("etcd at %s: %w", strings.Join(endpoints, ", "), err)
	}
	return &Client{etcd: c, Pause: 250 * time.Millisecond, MaxPause: 5 * time.Second, Call: 10 * time.Second}, nil
}

// Close closes the connections.
func (c *Client) Close() error { return c.etcd.Close() }

// retry calls do until it succeeds or ctx ends; the error then says what happened last.
// Nearly every failure of a membership change is one of a moment: no leader, a member not
// connected for long enough, another learner, a learner that is behind.
func (c *Client) retry(ctx context.Context, what string, do func(context.Context) error) error {
	pause := c.Pause
	for {
		call, cancel := context.WithTimeout(ctx, c.Call)
		err := do(call)
		cancel()
		if err == nil {
			return nil
		}
		err = fmt.Errorf("%s: %w", what, plain(err))
		var final *FinalError
		if errors.As(err, &final) {
			return err
		}
		if c.Report != nil {
			c.Report(err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(pause):
			pause = min(2*pause, c.MaxPause)
		}
	}
}

// FinalError is a failure that waiting does not cure.
type FinalError struct{ Reason string }

func (e *FinalError) Error() string { return e.Reason }

// plain takes gRPC's envelope off.
func plain(err error) error {
	if s, ok := status.FromError(err); ok && s.Message() != "" {
		return errors.New(s.Message())
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer from a quorum of etcd")
	}
	return err
}

// Member is a member of the cluster.
type Member struct {
	ID         uint64
	Name       string
	PeerURLs   []string
	ClientURLs []string
	Learner    bool
}

func memberOf(m *etcdserverpb.Member) Member {
	return Member{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, Learner: m.IsLearner}
}

// Started says whether the member has ever run.
func (m Member) Started() bool { return m.Name != "" && len(m.ClientURLs) > 0 }

// is says whether the member goes by the name or the address of a machine.
func (m Member) is(p node.Peer) bool { return m.Name == p.Name || m.at(p) }

// at says whether the member has the address of a machine.
func (m Member) at(p node.Peer) bool { return slices.Contains(m.PeerURLs, PeerURL(p.Address)) }

// Members lists the members as a quorum knows them, trying until ctx ends.
func (c *Client) Members(ctx context.Context) ([]Member, error) {
	var out []Member
	err := c.retry(ctx, "listing the members of etcd", func(ctx context.Context) error {
		resp, err := c.etcd.MemberList(ctx)
		if err != nil {
			return err
		}
		out = nil
		for _, m := range resp.Members {
			out = append(out, memberOf(m))
		}
		return nil
	})
	return out, err
}

// Remove takes the member with this id out of the cluster. One that is gone already is no error.
func (c *Client) Remove(ctx context.Context, id uint64) error {
	return c.retry(ctx, fmt.Sprintf("removing member %x from etcd", id), func(ctx context.Context) error {
		_, err := c.etcd.MemberRemove(ctx, id)
		if errors.Is(err, errMemberNotFound) {
			return nil
		}
		return err
	})
}

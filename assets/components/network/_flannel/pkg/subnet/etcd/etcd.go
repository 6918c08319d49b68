// SPDX-License-Identifier: Apache-2.0

// Package etcd stands in for the store of subnets in an etcd of their own, which is not
// linked: nodes of a cluster keep their subnets in the Kubernetes API.
package etcd

import (
	"context"
	"errors"

	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/subnet"
)

// EtcdConfig says how to reach etcd.
type EtcdConfig struct {
	Endpoints                 []string
	Keyfile, Certfile, CAFile string
	Prefix                    string
	Username, Password        string
}

// NewLocalManager fails.
func NewLocalManager(context.Context, *EtcdConfig, ip.IP4Net, ip.IP6Net, int) (subnet.Manager, error) {
	return nil, errors.New("this flanneld keeps subnets in the Kubernetes API only: start it with --kube-subnet-mgr")
}

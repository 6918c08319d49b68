// SPDX-License-Identifier: Apache-2.0

// Command containerd asks containerd's own resolver what it makes of the directory that is its
// first argument, in the place of /etc/containerd/certs.d. For each image named after it, one
// line of JSON says which hosts would be asked and which digest they gave.
package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/distribution/reference"
)

type answer struct {
	Hosts  []string
	Digest string
	Error  string `json:",omitempty"`
}

func main() {
	ctx := context.Background()
	hosts := config.ConfigureHosts(ctx, config.HostOptions{HostDir: config.HostDirFromRoot(os.Args[1])})
	for _, image := range os.Args[2:] {
		var a answer
		if err := ask(ctx, hosts, image, &a); err != nil {
			a.Error = err.Error()
		}
		if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
			panic(err)
		}
	}
}

func ask(ctx context.Context, hosts docker.RegistryHosts, image string, a *answer) error {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return err
	}
	list, err := hosts(reference.Domain(named))
	if err != nil {
		return err
	}
	for _, h := range list {
		a.Hosts = append(a.Hosts, h.Scheme+"://"+h.Host+h.Path)
	}
	_, d, err := docker.NewResolver(docker.ResolverOptions{Hosts: hosts, Headers: http.Header{}}).Resolve(ctx, named.String())
	a.Digest = d.Digest.String()
	return err
}

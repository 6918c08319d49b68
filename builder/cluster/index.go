// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// IndexFile is the name of the index in a rendered directory, KubeconfigFile that of the
// administrator's kubeconfig.
const (
	IndexFile      = "cluster.json"
	KubeconfigFile = "admin.conf"
)

// Index says what a rendered directory holds, for programs. There is no secret in it.
type Index struct {
	APIVersion string `json:"apiVersion"`
	// Kind is "ClusterIndex".
	Kind              string `json:"kind"`
	Name              string `json:"name"`
	KubernetesVersion string `json:"kubernetesVersion,omitempty"`
	// Endpoint is host:port of the API as nodes know it.
	Endpoint     string            `json:"endpoint"`
	EndpointMode node.EndpointMode `json:"endpointMode"`
	VIP          string            `json:"vip,omitempty"`
	// VIPProvider is what gives VIP to a host; external is none of the hosts' business.
	VIPProvider node.VIPProvider `json:"vipProvider,omitempty"`
	// APIPort is where every API server listens.
	APIPort int          `json:"apiPort"`
	PKIMode node.PKIMode `json:"pkiMode"`
	// Subnet and Gateway are those of hostNetwork.
	Subnet  string `json:"subnet,omitempty"`
	Gateway string `json:"gateway,omitempty"`
	// DNS are the resolvers that hosts with static addresses are told of.
	DNS []string `json:"dns,omitempty"`
	// Kubeconfig is the administrator's, relative to the directory; empty when only the
	// cluster itself can make it.
	Kubeconfig string      `json:"kubeconfig,omitempty"`
	Hosts      []IndexHost `json:"hosts"`
}

// IndexHost is one host of an Index, in the order of cluster.yaml.
type IndexHost struct {
	Name string    `json:"name"`
	Role node.Role `json:"role"`
	// Address is the node's; empty when DHCP decides.
	Address string `json:"address,omitempty"`
	// DHCP says that the host asks for its address.
	DHCP bool `json:"dhcp"`
	// MAC is that of an interface of the uplink, of the first member of a bond.
	MAC string `json:"mac,omitempty"`
	// VLAN is the tag of its uplink's traffic; 0 is untagged.
	VLAN int `json:"vlan,omitempty"`
	// Interfaces are those that the host has to have under these names.
	Interfaces []IndexInterface `json:"interfaces,omitempty"`

	UUID     string `json:"uuid,omitempty"`
	Serial   string `json:"serial,omitempty"`
	Platform string `json:"platform"`
	// Founder says that the host may start the cluster.
	Founder bool `json:"founder,omitempty"`
	// Ignition is the host's config, relative to the directory; empty while certificates of
	// an external authority are missing.
	Ignition string `json:"ignition,omitempty"`
}

// IndexInterface is a name that nothing in a host's config makes, and the key that says it.
type IndexInterface struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

const indexKind = "ClusterIndex"

// ErrNotRendered reports a directory that Render has not filled.
var ErrNotRendered = errors.New("not a rendered cluster")

// ReadIndex reads the index of a rendered directory. A directory without one wraps
// ErrNotRendered, in class Config.
func ReadIndex(dir string) (*Index, error) {
	file := filepath.Join(dir, IndexFile)
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.Config, fmt.Errorf("%s: %w: %w", dir, ErrNotRendered, err), "render it with 'imgbuild cluster render cluster.yaml -o "+dir+"'")
	} else if err != nil {
		return nil, err
	}
	var ix Index
	if err := json.Unmarshal(text, &ix); err != nil {
		return nil, fault.Wrap(fault.Config, fmt.Errorf("%s: %w: %w", file, ErrNotRendered, err), "render the cluster again")
	}
	if ix.Kind != indexKind || ix.APIVersion != APIVersion {
		return nil, fault.New(fault.Config, "render the cluster again with this version of imgbuild",
			"%s: %w: it is %s %s, not %s %s", file, ErrNotRendered, ix.APIVersion, ix.Kind, APIVersion, indexKind)
	}
	return &ix, nil
}

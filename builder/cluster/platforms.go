// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"

	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// platform is a place where Ignition finds its config.
type platform struct {
	// cloud says that the config is user data, kept by a service that others can ask.
	cloud bool
	// limit is the most user data takes, in bytes; 0 is unknown or none. Where encoded is
	// true the platform counts bytes after base64.
	limit   int
	encoded bool
}

// platforms are those Ignition 2.24 knows, by its names, with the limits that their
// documentation states.
var platforms = map[string]platform{
	"metal": {}, "qemu": {}, "file": {}, "hyperv": {}, "proxmoxve": {}, "virtualbox": {}, "nutanix": {cloud: true, limit: 32 << 10}, "kubevirt": {cloud: true},
	"vmware": {}, "zvm": {}, "applehv": {}, "powervs": {cloud: true, limit: 64 << 10},
	"aws":          {cloud: true, limit: 16 << 10},
	"azure":        {cloud: true, limit: 64<<10 - 1, encoded: true},
	"azurestack":   {cloud: true, limit: 64<<10 - 1, encoded: true},
	"gcp":          {cloud: true, limit: 256 << 10},
	"openstack":    {cloud: true, limit: 64<<10 - 1, encoded: true},
	"digitalocean": {cloud: true, limit: 64 << 10},
	"hetzner":      {cloud: true, limit: 32 << 10},
	"exoscale":     {cloud: true, limit: 32 << 10, encoded: true},
	"vultr":        {cloud: true}, "scaleway": {cloud: true, limit: 16 << 10}, "packet": {cloud: true}, "upcloud": {cloud: true, limit: 64 << 10},
	"aliyun": {cloud: true, limit: 16 << 10}, "ibmcloud": {cloud: true, limit: 64 << 10}, "oraclecloud": {cloud: true, limit: 32 << 10, encoded: true},
	"akamai": {cloud: true, limit: 16 << 10, encoded: true}, "cloudstack": {cloud: true, limit: 32 << 10, encoded: true},
	"brightbox": {cloud: true, limit: 16 << 10},
}

func platformNames() []string { return slices.Sorted(maps.Keys(platforms)) }

// size returns what the platform would count for a config.
func (p platform) size(config []byte) int {
	if p.encoded {
		return base64.StdEncoding.EncodedLen(len(config))
	}
	return len(config)
}

// userData checks what would be handed to clouds: that the user accepted the secrets in it,
// and that it is not too large, which is measured on a config with stand-ins for secrets.
func (v *validator) userData() {
	c := v.c
	if !strict.OneOf(v.doc, "userData.secrets", c.UserData.Secrets, refuseSecrets, acceptTokens, acceptAll) || v.doc.Err() != nil || len(v.extra) > 0 {
		return
	}
	for i := range c.Hosts {
		h := &c.Hosts[i]
		p := platforms[h.Platform]
		at := fmt.Sprintf("hosts[%d].platform", i)
		if !v.doc.Has(at) {
			at = "platform"
		}
		switch keys := h.Role == node.ControlPlane && c.PKI.Mode != node.PKIGenerate; {
		case !p.cloud:
		case keys && c.UserData.Secrets != acceptAll:
			v.fail(at, "would put private keys of control planes into user data, which others can often read",
				"userData.secrets all to accept that, pki.mode generate, or another way of delivery")
		case c.UserData.Secrets == refuseSecrets:
			v.fail(at, "would put bootstrap tokens into user data, which others can often read",
				"userData.secrets tokens to accept that, or another way of delivery")
		}
		if p.limit == 0 {
			continue
		}
		config, err := v.trial(h)
		if err != nil {
			v.fail(fmt.Sprintf("hosts[%d]", i), err.Error())
			continue
		}
		if size := p.size(config); size > p.limit {
			v.fail(fmt.Sprintf("hosts[%d]", i), fmt.Sprintf("needs %d bytes of user data, and platform %s takes %d", size, h.Platform, p.limit),
				"less in butane and podNetwork.manifests, or user data that only points to the config (ignition.config.replace)")
		}
	}
}

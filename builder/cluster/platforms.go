// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"compress/gzip"
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
	// filtered says that the network does not deliver gratuitous ARP: it knows by itself who
	// has which address.
	filtered bool
	// limit is the most that user data may have, in bytes, as the vendor states it; 0 where
	// none is stated. What counts against it is the config as counted makes it.
	limit   int
	counted counted
}

// counted is what a platform counts of a config.
type counted int

const (
	asIs counted = iota
	// encoded: as base64 text (RFC 4648).
	encoded
	// packed: as base64 text of what gzip made of it.
	packed
)

// platforms are those Ignition 2.24 knows, by its names. A limit is here only when the vendor
// writes it down: refusing what would fit is worse than an error that the cloud gives itself.
var platforms = map[string]platform{
	// Machines of one's own. Their configs stay with whoever runs the hypervisor.
	"metal": {}, "qemu": {}, "applehv": {}, "virtualbox": {}, "zvm": {}, "proxmoxve": {}, "file": {},
	// Hyper-V's key-value pairs take about 1 KiB each, and Ignition joins as many as there are.
	"hyperv": {},
	// open-vm-tools, GUESTMSG_MAX_IN_SIZE: 64 KiB for a guestinfo variable. Ignition reads
	// ignition.config.data with the encoding gzip+base64.
	"vmware": {limit: 64 << 10, counted: packed},

	// EC2 User Guide, "instance user data": 16 KB in raw form, before base64.
	"aws": {cloud: true, filtered: true, limit: 16 << 10},
	// Azure, "Custom data and cloud-init": the base64 text cannot exceed 64 KB; the schema of
	// osProfile.customData says 65535 bytes.
	"azure":      {cloud: true, filtered: true, limit: 64<<10 - 1, counted: encoded},
	"azurestack": {cloud: true, limit: 64<<10 - 1, counted: encoded},
	// Compute Engine API, Metadata.items[].value: at most 262144 bytes.
	"gcp": {cloud: true, filtered: true, limit: 256 << 10},
	// Nova, "Provide user data to instances": base64 text of at most 65535 bytes.
	"openstack": {cloud: true, limit: 64<<10 - 1, counted: encoded},
	// DigitalOcean API, droplets, user_data: 64 KiB.
	"digitalocean": {cloud: true, filtered: true, limit: 64 << 10},
	// Hetzner Cloud API, create a server, user_data: 32 KiB.
	"hetzner": {cloud: true, filtered: true, limit: 32 << 10},
	// Exoscale's own clients refuse base64 text of 32768 bytes and more.
	"exoscale": {cloud: true, limit: 32<<10 - 1, counted: encoded},
	// CloudStack, vm.userdata.max.length: base64 text of 32768 bytes unless the operator
	// allows more.
	"cloudstack": {cloud: true, limit: 32 << 10, counted: encoded},
	// ECS, "user data of Linux instances": 16 KB before base64.
	"aliyun": {cloud: true, filtered: true, limit: 16 << 10},
	// Oracle Cloud API, LaunchInstanceDetails.metadata: 32,000 bytes for all values together,
	// where user_data is base64 text. 100 bytes are left for the name of the key and others.
	"oraclecloud": {cloud: true, filtered: true, limit: 32_000 - 100, counted: encoded},
	// Linode API, metadata.user_data: 65535 bytes before base64.
	"akamai": {cloud: true, filtered: true, limit: 64<<10 - 1},
	// AHV takes 32 KB of guest customization.
	"nutanix": {cloud: true, limit: 32 << 10},

	"brightbox": {cloud: true}, "ibmcloud": {cloud: true, filtered: true}, "kubevirt": {cloud: true}, "packet": {cloud: true}, "powervs": {cloud: true},
	"scaleway": {cloud: true, filtered: true}, "upcloud": {cloud: true, filtered: true}, "vultr": {cloud: true, filtered: true},
}

func platformNames() []string { return slices.Sorted(maps.Keys(platforms)) }

// size returns what the platform would count for a config, in bytes.
func (p platform) size(config []byte) int {
	if p.counted == packed {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(config) // a Buffer does not fail
		_ = w.Close()
		config = b.Bytes()
	}
	if p.counted == asIs {
		return len(config)
	}
	return base64.StdEncoding.EncodedLen(len(config))
}

// userData checks what would be handed to clouds: that the user accepted the secrets in it,
// and that it is not too large. Every host's config is made on trial, with stand-ins for
// secrets, so that what Ignition would refuse is known before anything is written.
func (v *validator) userData() {
	if !strict.OneOf(v.doc, "userData.secrets", v.c.UserData.Secrets, refuseSecrets, acceptTokens, acceptAll) {
		return
	}
	wrong := v.doc.Problems()
	for i := range v.c.Hosts {
		v.consent(i, &v.c.Hosts[i])
	}
	if len(wrong) > 0 || len(v.extra) > 0 {
		return // there is no config whose size could be told
	}
	for i := range v.c.Hosts {
		h := &v.c.Hosts[i]
		at := fmt.Sprintf("hosts[%d]", i)
		config, err := v.trial(h)
		if err != nil {
			v.fail(at, err.Error())
			continue
		}
		if p := platforms[h.Platform]; p.limit > 0 && p.size(config) > p.limit {
			v.fail(at, fmt.Sprintf("needs %d bytes of user data, and platform %s takes %d", p.size(config), h.Platform, p.limit),
				"less in butane and podNetwork.manifests, or "+pointing)
		}
	}
}

// pointing is what can be done where a config is too large for user data: nothing here knows
// what else a host is handed.
const pointing = "platform metal, when user data of yours only points to the config (ignition.config.replace), at a place that only the host can read"

// consent checks that secrets of a host may enter its cloud's user data.
func (v *validator) consent(i int, h *Host) {
	c := v.c
	at := fmt.Sprintf("hosts[%d].platform", i)
	if !v.doc.Has(at) {
		at = "platform"
	}
	keys := ""
	switch {
	case h.Role == node.ControlPlane && c.PKI.Mode == node.PKIGenerate:
		keys = "the key that decrypts the authorities' keys" // which whoever has a token may read
	case h.Role == node.ControlPlane:
		keys = "private keys of control planes"
	case c.PKI.Mode == node.PKIExternal:
		keys = "private keys of kubelets"
	}
	switch {
	case !platforms[h.Platform].cloud:
	case keys != "" && c.UserData.Secrets != acceptAll:
		v.fail(at, "would put "+keys+" into user data, which others can often read",
			"userData.secrets all to accept that, or another way of delivery for these hosts")
	case c.UserData.Secrets == refuseSecrets:
		v.fail(at, "would put bootstrap tokens into user data, which others can often read",
			"userData.secrets tokens to accept that, or another way of delivery")
	}
}

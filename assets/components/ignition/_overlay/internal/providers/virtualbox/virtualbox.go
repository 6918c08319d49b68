// SPDX-License-Identifier: Apache-2.0

// Package virtualbox is the provider of configs in VirtualBox guest properties.
package virtualbox

import (
	"fmt"

	"github.com/coreos/vcontext/report"

	"github.com/coreos/ignition/v2/config/shared/errors"
	"github.com/coreos/ignition/v2/config/v3_6_experimental/types"
	"github.com/coreos/ignition/v2/internal/platform"
	"github.com/coreos/ignition/v2/internal/providers/util"
	"github.com/coreos/ignition/v2/internal/resource"

	"github.com/imgbuild/imgbuild/assets/components/ignition/vbox"
)

// The properties that hold the config and, for the future, how it is encoded.
const (
	property         = "/Ignition/Config"
	encodingProperty = "/Ignition/Config/Encoding"
)

func init() {
	platform.Register(platform.Provider{Name: "virtualbox", Fetch: fetch, DelConfig: remove})
}

func fetch(f *resource.Fetcher) (types.Config, report.Report, error) {
	encoding, err := vbox.Get(encodingProperty)
	if err != nil {
		return types.Config{}, report.Report{}, err
	}
	if len(encoding) > 0 {
		return types.Config{}, report.Report{}, fmt.Errorf("property %q is %q; no encoding is supported", encodingProperty, encoding)
	}
	config, err := vbox.Get(property)
	if err != nil {
		return types.Config{}, report.Report{}, err
	}
	if config == nil {
		f.Logger.Info("VirtualBox guest property %q does not exist; assuming no config", property)
		return types.Config{}, report.Report{}, errors.ErrEmpty
	}
	return util.ParseConfig(f.Logger, config)
}

func remove(f *resource.Fetcher) error {
	f.Logger.Info("deleting the Ignition config from VirtualBox guest properties")
	if err := vbox.Delete(encodingProperty); err != nil {
		return err
	}
	return vbox.Delete(property)
}

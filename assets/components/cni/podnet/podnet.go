// SPDX-License-Identifier: Apache-2.0

// Package podnet is a CNI plugin (CNI specification 1.0.0) that attaches containers the way a
// file says which may not exist yet. A runtime can then load its configuration when the node
// starts, and a pod that comes before its node has a subnet waits instead of failing:
//
//	{"type": "podnet", "config": "/run/imgbuild/pod-network.json", "timeoutSeconds": 90}
//
// The file holds the network configuration of another plugin.
package podnet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// defaultTimeout is below the two minutes after which a kubelet gives up a sandbox.
const defaultTimeout = 90 * time.Second

type config struct {
	types.NetConf
	// Config is the path of the file.
	Config string `json:"config"`
	// TimeoutSeconds bounds the wait for it, 90 if absent.
	TimeoutSeconds int `json:"timeoutSeconds"`
}

// Main is the plugin.
func Main() {
	skel.PluginMainFuncs(skel.CNIFuncs{Add: add, Del: del, Check: check}, version.All, "CNI podnet plugin")
}

func parse(stdin []byte) (*config, error) {
	c := &config{}
	if err := json.Unmarshal(stdin, c); err != nil {
		return nil, fmt.Errorf("podnet: the network configuration is not JSON: %w", err)
	}
	if c.Config == "" {
		return nil, errors.New(`podnet: the network configuration names no file: set "config"`)
	}
	return c, nil
}

// delegate reads the file, which must be whole once it exists, and gives it the network's
// name and version.
func (c *config) delegate() (plugin string, conf []byte, err error) {
	text, err := os.ReadFile(c.Config)
	if err != nil {
		return "", nil, err
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		return "", nil, fmt.Errorf("podnet: %s is not JSON: %w", c.Config, err)
	}
	plugin, _ = fields["type"].(string)
	if plugin == "" || plugin == "podnet" {
		return "", nil, fmt.Errorf("podnet: %s names no other plugin as its type", c.Config)
	}
	fields["name"], fields["cniVersion"] = c.Name, c.CNIVersion
	conf, err = json.Marshal(fields)
	return plugin, conf, err
}

func add(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	timeout := defaultTimeout
	if c.TimeoutSeconds > 0 {
		timeout = time.Duration(c.TimeoutSeconds) * time.Second
	}
	deadline := time.Now().Add(timeout)
	plugin, conf, err := c.delegate()
	for errors.Is(err, fs.ErrNotExist) {
		if time.Now().After(deadline) {
			return fmt.Errorf("podnet: this node has no pod subnet yet after %s: %w", timeout, err)
		}
		time.Sleep(100 * time.Millisecond)
		plugin, conf, err = c.delegate()
	}
	if err != nil {
		return err
	}
	result, err := invoke.DelegateAdd(context.Background(), plugin, conf, nil)
	if err != nil {
		return err
	}
	return types.PrintResult(result, c.CNIVersion)
}

// del succeeds without the file: what was never attached needs no detaching.
func del(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	plugin, conf, err := c.delegate()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return invoke.DelegateDel(context.Background(), plugin, conf, nil)
}

func check(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	plugin, conf, err := c.delegate()
	if err != nil {
		return err
	}
	return invoke.DelegateCheck(context.Background(), plugin, conf, nil)
}

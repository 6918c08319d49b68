// SPDX-License-Identifier: Apache-2.0

// Command hostgw is a pod network in its smallest form, for tests of clusters that bring their
// own: a bridge on every node, and on every node a route to the pods of each other by its
// address. It has nothing in common with the network of the image: it comes as a container
// image, asks the API as a pod does, and brings a CNI plugin of its own.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	core "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"github.com/imgbuild/imgbuild/firstboot/cluster"
)

// Where the manifest mounts the node's directories, and what the network puts there.
const (
	pluginDir  = "/opt/cni/bin"
	pluginName = "hostgw"
	configDir  = "/etc/cni/net.d"
	configName = "10-hostgw.conflist"
)

// bridge is the plugin that this network's own hands its work to.
const bridge = "/usr/lib/cni/bridge"

// again is slept between two looks at the nodes.
const again = 5 * time.Second

func main() {
	log.SetFlags(0)
	if filepath.Base(os.Args[0]) == pluginName && os.Getenv("CNI_COMMAND") != "" {
		log.Fatal(syscall.Exec(bridge, []string{"bridge"}, os.Environ()))
	}
	name := os.Getenv("NODE_NAME")
	if name == "" {
		log.Fatal("NODE_NAME is not set")
	}
	if err := install(); err != nil {
		log.Fatal(err)
	}
	for said := ""; ; time.Sleep(again) {
		err := reconcile(name)
		switch {
		case err == nil && said != "ok":
			said = "ok"
			log.Print("pods are attached")
		case err != nil && said != err.Error():
			said = err.Error()
			log.Print(said)
		}
	}
}

// install copies this program to where the runtime looks for plugins.
func install() error {
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	return replace(filepath.Join(pluginDir, pluginName), program, 0o755)
}

func replace(path string, data []byte, mode os.FileMode) error {
	if err := os.WriteFile(path+".new", data, mode); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// reconcile brings the configuration and the routes of this node in line with what the API says.
func reconcile(name string) error {
	nodes, err := list()
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range nodes {
		switch {
		case n.Spec.PodCIDR == "":
			errs = append(errs, fmt.Errorf("node %s has no range for its pods yet", n.Name))
		case n.Name == name:
			errs = append(errs, configure(n.Spec.PodCIDR))
		default:
			errs = append(errs, route(n))
		}
	}
	return errors.Join(errs...)
}

func list() ([]core.Node, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, err
	}
	client, err := cluster.New(config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return client.Nodes(ctx)
}

// configure tells the runtime how pods of this node are attached.
func configure(pods string) error {
	type object = map[string]any
	config, err := json.MarshalIndent(object{"cniVersion": "1.0.0", "name": "hostgw", "plugins": []object{
		{"type": pluginName, "bridge": "hostgw0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
			"ipam": object{"type": "host-local", "ranges": [][]object{{{"subnet": pods}}}, "routes": []object{{"dst": "0.0.0.0/0"}}}},
		{"type": "portmap", "capabilities": object{"portMappings": true}},
	}}, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(configDir, configName)
	if have, err := os.ReadFile(path); err == nil && string(have) == string(config) {
		return nil
	}
	return replace(path, config, 0o644)
}

// route leads to the pods of another node by its address.
func route(n core.Node) error {
	_, pods, err := net.ParseCIDR(n.Spec.PodCIDR)
	if err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	for _, a := range n.Status.Addresses {
		if a.Type != core.NodeInternalIP {
			continue
		}
		if err := netlink.RouteReplace(&netlink.Route{Dst: pods, Gw: net.ParseIP(a.Address)}); err != nil {
			return fmt.Errorf("route to %s by %s: %w", pods, a.Address, err)
		}
		return nil
	}
	return fmt.Errorf("node %s has no address yet", n.Name)
}

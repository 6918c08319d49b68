// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// APIServers returns the addresses of the API servers that are up, as they keep them in the
// endpoints of the service "kubernetes".
//
// It is what a kubelet may read: the Node authorizer shows it no other node, and endpoints,
// but no endpoint slices. The warning that endpoint slices should be read is of no use then.
func (c *Client) APIServers(ctx context.Context) ([]netip.Addr, error) {
	body, err := c.groups[""].Get().Namespace("default").Resource("endpoints").Name("kubernetes").
		SetHeader("Accept", "application/json").WarningHandler(rest.NoWarnings{}).MaxRetries(0).Do(ctx).Raw()
	if err != nil {
		return nil, fmt.Errorf("reading the addresses of the API servers: %w", err)
	}
	var endpoints struct {
		Subsets []struct {
			Addresses []struct {
				IP netip.Addr `json:"ip"`
			} `json:"addresses"`
		} `json:"subsets"`
	}
	if err := json.Unmarshal(body, &endpoints); err != nil {
		return nil, fmt.Errorf("the addresses of the API servers: %w", err)
	}
	var out []netip.Addr
	for _, s := range endpoints.Subsets {
		for _, a := range s.Addresses {
			if a.IP.IsValid() {
				out = append(out, a.IP.Unmap())
			}
		}
	}
	return out, nil
}

// Annotate sets one annotation of a node.
func (c *Client) Annotate(ctx context.Context, name, key, value string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{key: value}}})
	if err != nil {
		return err
	}
	err = c.groups[""].Patch(types.MergePatchType).Resource("nodes").Name(name).MaxRetries(0).Body(patch).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("annotating node %s: %w", name, err)
	}
	return nil
}

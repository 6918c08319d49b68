// SPDX-License-Identifier: Apache-2.0

// Package etcd brings this machine's etcd member into a cluster: it finds out whether a
// cluster exists (rendezvous.go, decide.go), and it changes the membership of one that does
// (client.go, join.go). docs/decisions/0015-found-or-join.md has the reasoning.
package etcd

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// PeerURL is the URL under which the member at an address talks to other members.
func PeerURL(address string) string { return kubeadm.URL("https", address, kubeadm.EtcdPeerPort) }

// ClientURL is the URL under which the member at an address serves clients.
func ClientURL(address string) string { return kubeadm.URL("https", address, kubeadm.EtcdClientPort) }

// membersPath is where etcd lists its members on the peer port, without needing a quorum.
const membersPath = "/members"

// clusterHeader carries the id of a cluster in etcd's answers; a machine that only waits
// for others sends none.
const clusterHeader = "X-Etcd-Cluster-ID"

// machineHeader carries the product UUID of a machine that waits. etcd sends none.
const machineHeader = "X-Imgbuild-Machine"

// member is an entry of the list on the peer port.
type member struct {
	Name       string   `json:"name,omitempty"`
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs,omitempty"`
}

// Answer is what one control plane said on its peer port.
type Answer struct {
	// Running says that etcd answered, not a machine that waits for others.
	Running bool
	// Foreign says that something answered which does not share our authority.
	Foreign bool
	// Date is the peer's clock.
	Date time.Time
	// Machine is the peer's product UUID, where it waits and its firmware says one.
	Machine string
	members []member
}

// Established says whether the members of the answer have been a cluster: a member makes
// the URL for its clients known once it has a quorum.
func (a Answer) Established() bool {
	return a.Foreign || slices.ContainsFunc(a.members, func(m member) bool { return len(m.ClientURLs) > 0 })
}

// served says whether the member of a peer has ever served clients.
func (a Answer) served(p node.Peer) bool {
	return slices.ContainsFunc(a.members, func(m member) bool {
		return slices.Contains(m.PeerURLs, PeerURL(p.Address)) && len(m.ClientURLs) > 0
	})
}

// lists says whether the answer's members are exactly these.
func (a Answer) lists(peers []node.Peer) bool {
	if len(a.members) != len(peers) {
		return false
	}
	for _, p := range peers {
		if !slices.ContainsFunc(a.members, func(m member) bool {
			return m.Name == p.Name && len(m.PeerURLs) == 1 && m.PeerURLs[0] == PeerURL(p.Address)
		}) {
			return false
		}
	}
	return true
}

// announce lists peers as etcd lists members that have not started.
func announce(peers []node.Peer) []member {
	out := make([]member, len(peers))
	for i, p := range peers {
		out[i] = member{Name: p.Name, PeerURLs: []string{PeerURL(p.Address)}}
	}
	return out
}

// maxAnswer bounds what is read from a peer.
const maxAnswer = 1 << 20

func parseAnswer(resp *http.Response) (Answer, error) {
	a := Answer{Running: resp.Header.Get(clusterHeader) != ""}
	if resp.StatusCode != http.StatusOK {
		return a, fmt.Errorf("answers %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return a, err
	}
	if a.members, err = parseMembers(body); err != nil {
		return a, err
	}
	a.Date, _ = http.ParseTime(resp.Header.Get("Date"))
	a.Machine = resp.Header.Get(machineHeader)
	return a, nil
}

func parseMembers(body []byte) ([]member, error) {
	var list []member
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("its list of members does not decode: %w", err)
	}
	for _, m := range list {
		for _, u := range m.PeerURLs {
			if _, err := url.Parse(u); err != nil {
				return nil, fmt.Errorf("its list of members has an invalid URL: %w", err)
			}
		}
	}
	return list, nil
}

// peerAddress returns the address in a member's peer URL.
func peerAddress(peerURL string) (string, error) {
	u, err := url.Parse(peerURL)
	if err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		return "", fmt.Errorf("etcd's peer URL %s: %w", peerURL, err)
	}
	if port != strconv.Itoa(kubeadm.EtcdPeerPort) {
		return "", fmt.Errorf("etcd's peer URL %s: its port is not %d", peerURL, kubeadm.EtcdPeerPort)
	}
	return host, nil
}

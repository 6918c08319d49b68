// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

// TestInitialCluster: whatever order etcd lists its members in, the list is the same, and a
// member that has not started has the name that it will start with.
func TestInitialCluster(t *testing.T) {
	members := []Member{
		{ID: 0xb, Name: "cp-3", PeerURLs: []string{PeerURL("192.0.2.13")}},
		{ID: 0xa, Name: "cp-1", PeerURLs: []string{PeerURL("192.0.2.11")}},
		{ID: 0xc, PeerURLs: []string{PeerURL("192.0.2.12")}},
		{ID: 0xd, PeerURLs: []string{PeerURL("192.0.2.14")}},
	}
	want := []node.Peer{
		{Name: "cp-1", Address: "192.0.2.11"}, {Name: "cp-2", Address: "192.0.2.12"},
		{Name: "cp-3", Address: "192.0.2.13"}, {Name: "d", Address: "192.0.2.14"},
	}
	for range len(members) {
		members = append(members[1:], members[0])
		got, err := initialCluster(members, 0xc, node.Peer{Name: "cp-2", Address: "192.0.2.12"})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v: %v %v", members, got, err)
		}
	}
	if _, err := initialCluster([]Member{{ID: 1, Name: "cp-1", PeerURLs: []string{"https://192.0.2.11:12380"}}}, 2, node.Peer{}); err == nil || !strings.Contains(err.Error(), "12380") {
		t.Errorf("a member at another port: %v", err)
	}
}

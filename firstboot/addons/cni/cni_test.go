// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm/kubeadmtest"
)

const sample = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"

func TestRender(t *testing.T) {
	for name, text := range map[string]string{
		"ipv4.json": sample,
		"dual.json": sample + "FLANNEL_IPV6_NETWORK=fd00:10::/56\nFLANNEL_IPV6_SUBNET=fd00:10:0:1::1/64\n",
	} {
		s, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		out, err := Render(s)
		if err != nil {
			t.Fatal(err)
		}
		kubeadmtest.Golden(t, name, out)
	}
}

func TestConfig(t *testing.T) {
	for name, nftables := range map[string]bool{"nftables.conflist": true, "iptables.conflist": false} {
		out, err := Config(nftables)
		if err != nil {
			t.Fatal(err)
		}
		kubeadmtest.Golden(t, name, out)
	}
}

func TestParseReportsEverything(t *testing.T) {
	_, err := Parse([]byte("FLANNEL_NETWORK=nowhere\nwhat\nFLANNEL_SUBNET=10.244.3.1\nFLANNEL_MTU=12\nFLANNEL_IPMASQ=perhaps\n"))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"env:1: FLANNEL_NETWORK", "env:2: \"what\"", "env:3: FLANNEL_SUBNET", "env:4: FLANNEL_MTU", "env:5: FLANNEL_IPMASQ"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing from:\n%v", want, err)
		}
	}
}

func TestHalfWrittenFile(t *testing.T) {
	for _, text := range []string{"", "FLANNEL_NETWORK=10.244.0.0/16\n", "FLANNEL_SUBNET=10.244.3.1/24\n"} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("accepted %q", text)
		}
	}
	if _, err := Render(Subnet{}); err == nil {
		t.Error("rendered nothing at all")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("FLANNEL_SUBNET=::1/0\nFLANNEL_MTU=9000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			return
		}
		out, err := Render(s)
		if err != nil {
			t.Fatalf("parsed %+v but cannot render it: %v", s, err)
		}
		if !json.Valid(out) {
			t.Fatalf("not JSON: %s", out)
		}
	})
}

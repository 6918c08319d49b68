// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

// Recognise finds this machine among the hosts of a document that serves several, and puts
// its entry in the place of the document's own. A document for one machine is left alone.
func Recognise(root string, n *node.Node) error {
	f := facts(root)
	if n.Resolve(f) {
		return nil
	}
	return fmt.Errorf("none of the %d hosts of the node document is this machine (MACs %s; UUID %q; serial %q); correct a match rule, or add the machine",
		len(n.Hosts), strings.Join(f.MACs, ", "), f.UUID, f.Serial)
}

// facts reads what the hardware says about itself; what it does not say is empty.
func facts(root string) node.Facts {
	read := func(path string) string {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(text))
	}
	f := node.Facts{UUID: read("/sys/class/dmi/id/product_uuid"), Serial: read("/sys/class/dmi/id/product_serial")}
	links, _ := filepath.Glob(filepath.Join(root, "/sys/class/net/*/address"))
	for _, l := range links {
		mac := read("/sys/class/net/" + filepath.Base(filepath.Dir(l)) + "/address")
		if len(mac) == 17 && mac != "00:00:00:00:00:00" && !slices.Contains(f.MACs, mac) {
			f.MACs = append(f.MACs, mac)
		}
	}
	return f
}

// ProductUUID is what the firmware says; empty where it says nothing.
func ProductUUID(root string) string { return facts(root).UUID }

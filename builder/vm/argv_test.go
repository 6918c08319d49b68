// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files and fail")

func TestArguments(t *testing.T) {
	cases := map[string]Spec{
		"node": {Image: "/out/node.raw", Ignition: "/run/ignition.json", Accel: TCG,
			NICs: []NIC{{Forwards: []int{6443, 10250}}}},
		"kvm-4k": {Name: "rack,1", Image: "/out/node.raw", SectorSize: 4096, DiskSize: 32 << 30, Disks: []string{"/out/a.raw", "/out/b.raw"}, Accel: KVM, CPUs: 2, MemoryMiB: 2048,
			KernelArguments: []string{"debug", "x=1,2"},
			NICs:            []NIC{{MAC: "52:54:00:00:00:01", Stream: "/run/a,b.sock"}, {}}},
		"matched": {Image: "/out/node.raw", UUID: "8e2b4b4c-0d0c-4c5f-9c52-0b8a3f4a1b2c", Serial: "S,1 x", Accel: TCG},
		"direct": {Kernel: "/k", Initrd: "/i", Append: "console=ttyS0", Accel: TCG, NoReboot: true,
			Clock: time.Date(2031, 2, 3, 4, 5, 6, 7, time.FixedZone("", 3600))},
	}
	for name, s := range cases {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(pairs(Arguments(s.withDefaults(), "/tools")), "\n") + "\n"
			file := filepath.Join("testdata", name+".args")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				t.Fatalf("%s rewritten; look at the difference and run again without -update", file)
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("arguments differ from %s\ngot:\n%s\nwant:\n%s", file, got, want)
			}
		})
	}
}

// pairs puts an option and its value on one line.
func pairs(args []string) []string {
	var out []string
	for _, a := range args {
		if strings.HasPrefix(a, "-") || len(out) == 0 {
			out = append(out, a)
		} else {
			out[len(out)-1] += " " + a
		}
	}
	return out
}

func TestValidate(t *testing.T) {
	err := Spec{Accel: "hax", SectorSize: 1024, CPUs: 0, MemoryMiB: 1, Initrd: "/nowhere",
		NICs: []NIC{{Stream: "/s", Forwards: []int{22}}}}.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{`"hax"`, "1024", "0 CPUs", "1 MiB", "neither an image nor a kernel", "without a kernel", "/nowhere", "interface 0"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not mentioned in:\n%v", want, err)
		}
	}
	if err := (Spec{Image: os.Args[0]}).withDefaults().Validate(); err != nil {
		t.Errorf("defaults are refused: %v", err)
	}
}

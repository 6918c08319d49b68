// SPDX-License-Identifier: Apache-2.0

package timeline

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "rewrite the golden files and fail")

func at(s float64) Seconds { return Seconds(s * float64(time.Second)) }

func sample() *Timeline {
	t := &Timeline{Title: "controlplane-amd64 <test>", Machine: "QEMU 10 TCG, 4 CPUs, 4096 MiB", Ready: at(47.3),
		Spans: []Span{
			{Group: Phase, Name: "wait-control-plane", Start: at(22), End: at(38.25)},
			{Group: Phase, Name: "addons", Start: at(40), End: at(46.9), Note: "failed"},
			{Group: Phase, Name: "certs", Start: at(19), End: at(19.12)},
			{Group: Phase, Name: "preflight", Start: at(18.9), End: at(19), Note: "checked"},
			{Group: Boot, Name: "firmware", End: at(2.1)},
			{Group: Boot, Name: "kernel", Start: at(2.1), End: at(6)},
			{Group: Boot, Name: "initrd", Start: at(6), End: at(14)},
			{Group: Boot, Name: "system", Start: at(14), End: at(18.9)},
			{Group: Boot, Name: "first boot", Start: at(18.9), End: at(47.3)},
			{Group: Ignition, Name: "disks", Start: at(9), End: at(11)},
		},
		Moments: []Moment{{Name: "node registered", At: at(40.5)}, {Name: "API answers", At: at(37.9)}}}
	t.Sort()
	return t
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	file = filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Fatalf("%s rewritten; look at the difference and run again without -update", file)
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("differs from %s:\n%s", file, got)
	}
}

func TestSVG(t *testing.T) {
	svg := sample().SVG()
	dec := xml.NewDecoder(bytes.NewReader(svg))
	for {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
	}
	for _, want := range []string{"&lt;test&gt;: Ready in 47.3 s", ">API answers<", ">37.9 s<", "Ignition stage", ">45 s<", "0.12 s"} {
		if !strings.Contains(string(svg), want) {
			t.Errorf("%q is not in the picture", want)
		}
	}
	golden(t, "sample.svg", svg)
}

func TestTable(t *testing.T) {
	text := sample().Table()
	for _, l := range strings.Split(text, "\n") {
		if n := utf8.RuneCountInString(l); n > 100 {
			t.Errorf("%d columns: %s", n, l)
		}
	}
	golden(t, "sample.txt", []byte(text))
}

func TestJSON(t *testing.T) {
	want := sample()
	text, err := json.MarshalIndent(want, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got := &Timeline{}
	if err := json.Unmarshal(text, got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, want)
	}
}

func TestEmpty(t *testing.T) {
	empty := &Timeline{Title: "x"}
	if svg := string(empty.SVG()); strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") || strings.Contains(svg, "Ready") {
		t.Errorf("%s", svg)
	}
	_ = empty.Table()
}

func TestAxisStep(t *testing.T) {
	for _, total := range []time.Duration{0, time.Millisecond, 13 * time.Second, time.Minute, time.Hour, 30 * time.Hour} {
		if step := axisStep(total); step <= 0 || total/step > 12 {
			t.Errorf("%s: a line every %s", total, step)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/store"
)

const big = 1 << 20

func TestFetch(t *testing.T) {
	data := content(big)
	ok := file(data)
	// Each case ends with the right bytes in the store after exactly these requests.
	cases := map[string]struct {
		handler http.HandlerFunc
		want    []string
		noSize  bool
	}{
		"plain":          {handler: ok, want: []string{""}},
		"size unknown":   {handler: ok, want: []string{""}, noSize: true},
		"drops mid-body": {handler: cut(300_000, 2, ok), want: []string{"", "bytes=300000-", "bytes=600000-"}},
		"503 then 200":   {handler: failing(503, 2, ok), want: []string{"", "", ""}},
		"429 then 200":   {handler: failing(429, 1, ok), want: []string{"", ""}},
		"more drops than attempts": {handler: cut(150_000, 6, ok), want: []string{"", "bytes=150000-", "bytes=300000-",
			"bytes=450000-", "bytes=600000-", "bytes=750000-", "bytes=900000-"}},
		"drops and ignores Range": {
			handler: cut(300_000, 1, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(data) }),
			want:    []string{"", "bytes=300000-"},
		},
		"answers another range": {
			handler: cut(300_000, 1, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") != "" {
					w.Header().Set("Content-Range", fmt.Sprintf("bytes 5-%d/%d", big-1, big))
					w.WriteHeader(http.StatusPartialContent)
					_, _ = w.Write(data[5:])
					return
				}
				_, _ = w.Write(data)
			}),
			want: []string{"", "bytes=300000-", ""},
		},
		"refuses the range": {
			handler: cut(300_000, 1, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") != "" {
					w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
					return
				}
				_, _ = w.Write(data)
			}),
			want: []string{"", "bytes=300000-", ""},
		},
		"wrong bytes once": {
			handler: func() http.HandlerFunc {
				var n atomic.Int32
				return func(w http.ResponseWriter, r *http.Request) {
					if n.Add(1) == 1 {
						_, _ = w.Write(make([]byte, big))
						return
					}
					ok(w, r)
				}
			}(),
			want: []string{"", ""},
		},
		"slow": {
			handler: func(w http.ResponseWriter, r *http.Request) {
				for i := 0; i < big; i += big / 8 {
					_, _ = w.Write(data[i : i+big/8])
					w.(http.Flusher).Flush()
					time.Sleep(2 * time.Millisecond)
				}
			},
			want: []string{""},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, st, rec := newOrigin(t), open(t), &recorder{}
			o.handle("/f", c.handler)
			opts := quick()
			opts.Sink = rec
			it := item("thing 1.0", data, o.URL+"/f")
			if c.noSize {
				it.Size = 0
			}
			if err := Fetch(t.Context(), st, []Item{it, it}, opts); err != nil {
				t.Fatal(err)
			}
			if got := o.seen("/f"); fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("requests %q, want %q", got, c.want)
			}
			path, err := st.Blob(it.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := os.ReadFile(path); !bytes.Equal(got, data) {
				t.Error("wrong bytes")
			}
			if task := rec.tasks["thing 1.0"]; task.bytes != big || task.done != 1 || task.err != nil {
				t.Errorf("progress: %d bytes, done %d times, %v", task.bytes, task.done, task.err)
			}
			if left, _ := os.ReadDir(filepath.Join(st.Dir(), "partial")); len(left) != 0 {
				t.Errorf("left in partial/: %v", left)
			}
			o.Close() // a warm store needs no network
			if err := Fetch(t.Context(), st, []Item{it}, Options{Offline: true}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFetchFailures(t *testing.T) {
	data := content(1000)
	cases := map[string]struct {
		handler  http.HandlerFunc
		class    fault.Class
		requests int
		text     []string
	}{
		"404":            {failing(404, 99, nil), fault.MissingPin, 1, []string{"thing 1.0", "404", "imgbuild lock"}},
		"410":            {failing(410, 99, nil), fault.MissingPin, 1, []string{"thing 1.0", "410"}},
		"403":            {failing(403, 99, nil), fault.Network, 1, []string{"thing 1.0", "403"}},
		"always 500":     {failing(500, 99, nil), fault.Network, 3, []string{"thing 1.0", "500"}},
		"wrong bytes":    {file(make([]byte, 1000)), fault.Digest, 2, []string{"expected", string(store.DigestOf(data)), string(store.DigestOf(make([]byte, 1000)))}},
		"too short":      {file(data[:999]), fault.Digest, 1, []string{"expected 1000 bytes", "999"}},
		"announces more": {file(content(1001)), fault.Digest, 1, []string{"expected 1000 bytes", "1001"}},
		"sends more": {func(w http.ResponseWriter, _ *http.Request) {
			for range 20 {
				_, _ = w.Write(make([]byte, 100))
				w.(http.Flusher).Flush()
			}
		}, fault.Digest, 1, []string{"more than the expected 1000 bytes"}},
		"always drops at once": {cut(0, 99, file(data)), fault.Network, 3, []string{"thing 1.0"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, st := newOrigin(t), open(t)
			o.handle("/f", c.handler)
			err := Fetch(t.Context(), st, []Item{item("thing 1.0", data, o.URL+"/f")}, quick())
			if fault.ClassOf(err) != c.class {
				t.Errorf("class %d, want %d: %v", fault.ClassOf(err), c.class, err)
			}
			wantText(t, err, c.text...)
			if n := len(o.seen("/f")); n != c.requests {
				t.Errorf("%d requests, want %d", n, c.requests)
			}
			if st.Has(store.DigestOf(data)) {
				t.Error("a failed download is in the store")
			}
		})
	}
}

func TestSeveralURLs(t *testing.T) {
	data := content(5000)
	for name, first := range map[string]http.HandlerFunc{
		"gone":        failing(404, 99, nil),
		"refused":     failing(403, 99, nil),
		"failing":     failing(500, 99, nil),
		"wrong bytes": file(make([]byte, 5000)),
		"wrong size":  file(data[:10]),
		"drops":       cut(2000, 99, file(data)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, st := newOrigin(t), open(t)
			o.handle("/a", first)
			o.handle("/b", file(data))
			if err := Fetch(t.Context(), st, []Item{item("x", data, o.URL+"/a", o.URL+"/b")}, quick()); err != nil {
				t.Error(err)
			}
		})
	}
}

// One item's failure keeps nobody else from being fetched, and all failures are in one error.
func TestAllFailuresAtOnce(t *testing.T) {
	o, st := newOrigin(t), open(t)
	var items []Item
	for i := range 12 {
		data := content(100 + i)
		path := fmt.Sprintf("/%d", i)
		if i%4 != 0 {
			o.handle(path, file(data))
		}
		items = append(items, item(fmt.Sprintf("pkg-%d 1.0", i), data, o.URL+path))
	}
	err := Fetch(t.Context(), st, items, quick())
	if fault.ClassOf(err) != fault.MissingPin {
		t.Errorf("class %d", fault.ClassOf(err))
	}
	wantText(t, err, "3 of 12", "pkg-0 1.0", "pkg-4 1.0", "pkg-8 1.0")
	for i, it := range items {
		if st.Has(it.SHA256) != (i%4 != 0) {
			t.Errorf("item %d in store: %v", i, st.Has(it.SHA256))
		}
	}
}

func TestNoNetworkNamesEverything(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := "http://" + l.Addr().String()
	l.Close()
	st := open(t)
	var items []Item
	var names []string
	for i := range 40 {
		names = append(names, fmt.Sprintf("pkg-%d", i))
		items = append(items, item(names[i], content(i+1), dead+"/x"))
	}
	err = Fetch(t.Context(), st, items, quick())
	if fault.ClassOf(err) != fault.Network {
		t.Errorf("class %d", fault.ClassOf(err))
	}
	wantText(t, err, names...)
	wantText(t, err, "cannot be reached", "40 of 40")

	opts := quick()
	opts.Offline = true
	opts.Client = &http.Client{Transport: refuse{t}}
	err = Fetch(t.Context(), st, items, opts)
	if fault.ClassOf(err) != fault.Network {
		t.Errorf("offline: class %d", fault.ClassOf(err))
	}
	wantText(t, err, names...)
}

type refuse struct{ t *testing.T }

func (r refuse) RoundTrip(*http.Request) (*http.Response, error) {
	r.t.Error("network I/O while offline")
	return nil, errors.New("offline")
}

func TestInterruptedThenResumedByNextRun(t *testing.T) {
	data := content(big)
	o, st := newOrigin(t), open(t)
	ctx, cancel := context.WithCancel(t.Context())
	o.handle("/f", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Content-Length", fmt.Sprint(big))
		_, _ = w.Write(data[:400_000])
		w.(http.Flusher).Flush()
		for p, _ := filepath.Glob(filepath.Join(st.Dir(), "partial", "*")); ; {
			if info, err := os.Stat(strings.TrimSuffix(p[0], store.PartialNote)); err == nil && info.Size() == 400_000 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		cancel()
		<-r.Context().Done()
	})
	it := item("thing", data, o.URL+"/f")
	err := Fetch(ctx, st, []Item{it}, quick())
	if fault.ClassOf(err) != fault.Interrupted {
		t.Fatalf("class %d: %v", fault.ClassOf(err), err)
	}
	var ifRange string
	o.handle("/f", func(w http.ResponseWriter, r *http.Request) {
		ifRange = r.Header.Get("If-Range")
		w.Header().Set("ETag", `"v1"`)
		http.ServeContent(w, r, "f", time.Time{}, bytes.NewReader(data))
	})
	if err := Fetch(t.Context(), st, []Item{it}, quick()); err != nil {
		t.Fatal(err)
	}
	if ifRange != `"v1"` {
		t.Errorf("If-Range %q", ifRange)
	}
	if got := o.seen("/f"); got[len(got)-1] != "bytes=400000-" {
		t.Errorf("requests %q", got)
	}
}

// The origin's file changed between two runs: the old half must not be mixed with the new.
func TestOriginChangedBetweenRuns(t *testing.T) {
	data := content(big)
	o, st := newOrigin(t), open(t)
	old := content(big + 1)[:big]
	o.handle("/f", cut(400_000, 99, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"old"`)
		w.Header().Set("Content-Length", fmt.Sprint(big))
		_, _ = w.Write(old)
	}))
	it := item("thing", data, o.URL+"/f")
	opts := quick()
	opts.Attempts = 1
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := Fetch(ctx, st, []Item{it}, opts); err == nil {
		t.Fatal("succeeded")
	}
	n := len(o.seen("/f"))
	o.handle("/f", file(data))
	if err := Fetch(t.Context(), st, []Item{it}, quick()); err != nil {
		t.Fatal(err)
	}
	if got := len(o.seen("/f")) - n; got != 1 {
		t.Errorf("%d requests, want 1: If-Range tells that the file changed", got)
	}
}

func TestStalledTransferIsRetried(t *testing.T) {
	data := content(1000)
	o, st := newOrigin(t), open(t)
	var n atomic.Int32
	o.handle("/f", func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(data[:500])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		file(data)(w, r)
	})
	opts := quick()
	opts.Stall = 100 * time.Millisecond
	if err := Fetch(t.Context(), st, []Item{item("x", data, o.URL+"/f")}, opts); err != nil {
		t.Fatal(err)
	}
}

func TestTwoFetchesDownloadOnce(t *testing.T) {
	data := content(big)
	o := newOrigin(t)
	o.handle("/f", file(data))
	dir := filepath.Join(t.TempDir(), "cache")
	errs := make(chan error)
	for range 4 {
		go func() {
			st, _ := store.Open(dir)
			errs <- Fetch(t.Context(), st, []Item{item("x", data, o.URL+"/f")}, quick())
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := len(o.seen("/f")); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestFileURL(t *testing.T) {
	data := content(1000)
	p := filepath.Join(t.TempDir(), "x.deb")
	if err := os.WriteFile(p, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Fetch(t.Context(), open(t), []Item{item("x", data, "file://"+p)}, quick()); err != nil {
		t.Error(err)
	}
	err := Fetch(t.Context(), open(t), []Item{item("x", data, "file://"+p+"x")}, quick())
	if fault.ClassOf(err) != fault.MissingPin {
		t.Errorf("missing file: %v", err)
	}
}

func TestPasswordsStayOutOfErrors(t *testing.T) {
	o := newOrigin(t)
	u := strings.Replace(o.URL, "http://", "http://me:hunter2@", 1) + "/gone"
	err := Fetch(t.Context(), open(t), []Item{item("x", content(5), u)}, quick())
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

// The proxy variables are read once per process, so this test runs itself in a child.
func TestProxyFromEnvironment(t *testing.T) {
	data := content(1000)
	if os.Getenv("IMGBUILD_TEST_PROXY_CHILD") != "" {
		if err := Fetch(t.Context(), open(t), []Item{item("x", data, "http://origin.invalid/x")}, quick()); err != nil {
			t.Fatal(err)
		}
		return
	}
	var asked atomic.Value
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.URL.String())
		file(data)(w, r)
	}))
	defer proxy.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestProxyFromEnvironment$")
	cmd.Env = append(os.Environ(), "IMGBUILD_TEST_PROXY_CHILD=1", "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY=", "no_proxy=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := asked.Load(); got != "http://origin.invalid/x" {
		t.Errorf("the proxy was asked for %v", got)
	}
}

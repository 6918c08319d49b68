// SPDX-License-Identifier: Apache-2.0

package ethernet

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// station is a port and what it received.
type station struct {
	*Port
	mu  sync.Mutex
	got []string
}

func attach(t *testing.T, s *Switch, name string) *station {
	t.Helper()
	st := &station{}
	var err error
	st.Port, err = s.Attach(name, func(f Frame) {
		st.mu.Lock()
		defer st.mu.Unlock()
		st.got = append(st.got, string(f.Payload()))
	})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// take returns what arrived since the last call, once nothing moves any more.
func (st *station) take() []string {
	synctest.Wait()
	st.mu.Lock()
	defer st.mu.Unlock()
	got := st.got
	st.got = nil
	return got
}

func (st *station) want(t *testing.T, want ...string) {
	t.Helper()
	if got := st.take(); !slices.Equal(got, want) {
		t.Errorf("%s received %q, want %q", st.Name, got, want)
	}
}

// segment runs a test with a switch and three stations in a bubble: time stands still unless
// everything sleeps, and a goroutine that is left over fails the test.
func segment(t *testing.T, o Options, test func(t *testing.T, s *Switch, a, b, c *station)) {
	synctest.Test(t, func(t *testing.T) {
		s := New(o)
		defer s.Close()
		test(t, s, attach(t, s, "a"), attach(t, s, "b"), attach(t, s, "c"))
	})
}

func TestLearning(t *testing.T) {
	segment(t, Options{Age: time.Minute}, func(t *testing.T, s *Switch, a, b, c *station) {
		a.Send(frame(mac(2), mac(1), "unknown"))
		b.want(t, "unknown")
		c.want(t, "unknown")
		b.Send(frame(mac(1), mac(2), "answer"))
		a.want(t, "answer")
		c.want(t)
		a.Send(frame(mac(2), mac(1), "known"))
		b.want(t, "known")
		c.want(t)
		if s.Where(mac(2)) != b.Port || s.Where(mac(9)) != nil {
			t.Error("Where does not know what was learned")
		}

		a.Send(frame(mac(1), mac(7), "both live here"))
		a.want(t)
		b.want(t)
		a.Send(frame(Broadcast, mac(1), "all"))
		a.Send(frame(MAC{0x33, 0x33, 0, 0, 0, 1}, mac(1), "many"))
		a.want(t)
		b.want(t, "all", "many")
		c.want(t, "all", "many")

		c.Send(frame(mac(9), mac(2), "moved")) // to an unknown station: everyone
		a.want(t, "moved")
		b.want(t, "moved")
		a.Send(frame(mac(2), mac(1), "to its new place"))
		b.want(t)
		c.want(t, "to its new place")

		time.Sleep(61 * time.Second)
		a.Send(frame(mac(2), mac(1), "aged"))
		b.want(t, "aged")
		c.want(t, "aged")
	})
}

func TestNotForwarded(t *testing.T) {
	segment(t, Options{}, func(t *testing.T, s *Switch, a, b, _ *station) {
		a.Send(frame(MAC{1, 0x80, 0xc2, 0, 0, 0x0e}, mac(1), "between neighbours"))
		a.Send(Frame("too short"))
		a.Send(make(Frame, MaxFrame+1))
		b.want(t)
		a.Send(frame(MAC{1, 0x80, 0xc2, 0, 0, 0x10}, mac(1), "not reserved"))
		b.want(t, "not reserved")
		group := MAC{1, 0, 0, 0, 0, 7}
		a.Send(frame(mac(2), group, "from a group"))
		if b.want(t, "from a group"); s.Where(group) != nil {
			t.Error("a group address was learned")
		}
	})
}

func TestTableIsBounded(t *testing.T) {
	segment(t, Options{Stations: 2, Age: time.Minute}, func(t *testing.T, s *Switch, a, b, c *station) {
		for i := range byte(3) {
			a.Send(frame(Broadcast, mac(i), "x"))
		}
		b.take()
		c.take()
		b.Send(frame(mac(1), mac(8), "known"))
		b.Send(frame(mac(2), mac(8), "no room"))
		a.want(t, "known", "no room")
		c.want(t, "no room")
		time.Sleep(2 * time.Minute)
		b.Send(frame(mac(9), mac(8), "room again"))
		if c.want(t, "room again"); s.Where(mac(8)) != b.Port {
			t.Error("the aged stations were not forgotten for a new one")
		}
	})
}

func TestCut(t *testing.T) {
	segment(t, Options{}, func(t *testing.T, _ *Switch, a, b, c *station) {
		a.Cut()
		a.Send(frame(Broadcast, mac(1), "lost"))
		b.Send(frame(Broadcast, mac(2), "half"))
		a.want(t)
		b.want(t)
		c.want(t, "half")
		a.Restore()
		a.Send(frame(Broadcast, mac(1), "back"))
		b.want(t, "back")
		if n := a.Counts(); n.InDropped != 1 || n.OutDropped != 1 || n.In != 1 {
			t.Errorf("counts %+v", n)
		}
		a.SetDelay(time.Second)
		a.Send(frame(Broadcast, mac(1), "under way"))
		time.Sleep(time.Second / 2)
		a.Cut()
		time.Sleep(time.Second)
		a.Restore()
		b.want(t)
	})
}

func TestDelay(t *testing.T) {
	segment(t, Options{}, func(t *testing.T, _ *Switch, a, b, _ *station) {
		a.SetDelay(100 * time.Millisecond)
		b.SetDelay(50 * time.Millisecond)
		a.Send(frame(Broadcast, mac(1), "1"))
		a.Send(frame(Broadcast, mac(1), "2"))
		time.Sleep(149 * time.Millisecond)
		b.want(t)
		time.Sleep(2 * time.Millisecond)
		b.want(t, "1", "2")
		a.Send(frame(Broadcast, mac(1), "3"))
		a.SetDelay(0)
		a.Send(frame(Broadcast, mac(1), "4"))
		time.Sleep(time.Second)
		b.want(t, "3", "4") // no overtaking
	})
}

func TestLoss(t *testing.T) {
	lost := func(seed uint64) (got []string) {
		segment(t, Options{Seed: seed}, func(t *testing.T, _ *Switch, a, b, _ *station) {
			a.SetLoss(0.5)
			for i := range 200 {
				a.Send(frame(Broadcast, mac(1), string(rune('A'+i))))
			}
			got = b.take()
		})
		return got
	}
	first := lost(1)
	if n := len(first); n < 60 || n > 140 {
		t.Errorf("%d of 200 frames arrive at a loss of one half", n)
	}
	if !slices.Equal(first, lost(1)) {
		t.Error("the same seed loses other frames")
	}
	if slices.Equal(first, lost(2)) {
		t.Error("another seed loses the same frames")
	}
}

// A station that does not read loses its own frames and holds nobody up.
func TestSlowReceiver(t *testing.T) {
	segment(t, Options{}, func(t *testing.T, s *Switch, a, b, _ *station) {
		stuck := make(chan struct{})
		slow, err := s.Attach("slow", func(Frame) { <-stuck })
		if err != nil {
			t.Fatal(err)
		}
		defer close(stuck)
		for range 4 {
			for range queueFrames / 2 {
				a.Send(frame(Broadcast, mac(1), "x"))
			}
			if got := len(b.take()); got != queueFrames/2 {
				t.Fatalf("%d frames arrive beside a slow station, want %d", got, queueFrames/2)
			}
		}
		if n := slow.Counts(); n.OutDropped != 2*queueFrames-queueFrames-1 {
			t.Errorf("%+v: want all lost but those in the queue and the one being delivered", n)
		}
	})
}

func TestTaps(t *testing.T) {
	segment(t, Options{}, func(t *testing.T, _ *Switch, a, b, _ *station) {
		var mu sync.Mutex
		var seen []string
		remove := b.Tap(func(s Seen) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, s.Port.Name+" "+string(s.Direction)+" "+string(s.Frame.Payload()))
		})
		a.Send(frame(Broadcast, mac(1), "in"))
		synctest.Wait()
		b.Send(frame(Broadcast, mac(2), "out"))
		synctest.Wait()
		b.Cut()
		b.Send(frame(Broadcast, mac(2), "lost"))
		a.Send(frame(Broadcast, mac(1), "lost"))
		synctest.Wait()
		b.Restore()
		remove()
		b.Send(frame(Broadcast, mac(2), "unwatched"))
		synctest.Wait()
		if want := []string{"b to in", "b from out"}; !slices.Equal(seen, want) {
			t.Errorf("the tap saw %q, want %q", seen, want)
		}
	})
}

func TestClose(t *testing.T) {
	segment(t, Options{}, func(t *testing.T, s *Switch, a, b, c *station) {
		b.Send(frame(Broadcast, mac(2), "here"))
		a.take()
		c.take()
		b.SetDelay(time.Hour)
		b.Send(frame(Broadcast, mac(2), "never"))
		b.Close()
		b.Close()
		if s.Where(mac(2)) != nil {
			t.Error("a station is known behind a port that is gone")
		}
		a.Send(frame(mac(2), mac(1), "flooded"))
		c.want(t, "flooded")
		s.Close()
		if _, err := s.Attach("d", nil); !errors.Is(err, ErrClosed) {
			t.Errorf("a closed switch takes ports: %v", err)
		}
	})
}

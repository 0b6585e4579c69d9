package cpu

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestPoolRunsEveryItemOnce stresses rounds of all sizes, hot and parked,
// with more and with fewer workers than processors.
func TestPoolRunsEveryItemOnce(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 2 * runtime.GOMAXPROCS(0)} {
		p := newPool(workers)
		for round := 0; round < 3000; round++ {
			n := round % 17
			var seen [17]atomic.Int32
			busy := make([]atomic.Bool, workers)
			p.do(n, 1e9, func(w, i int) {
				if busy[w].Swap(true) {
					t.Error("two items run at once on one worker's scratch space")
				}
				seen[i].Add(1)
				busy[w].Store(false)
			})
			for i := range n {
				if c := seen[i].Load(); c != 1 {
					t.Fatalf("%d workers, round %d of %d items: item %d ran %d times", workers, round, n, i, c)
				}
			}
			if round%1000 == 999 {
				time.Sleep(2 * spinTime) // the helpers park
			}
		}
		p.close()
		p.close()
	}
}

// TestPoolSharedByGoroutines calls one pool from many goroutines.
func TestPoolSharedByGoroutines(t *testing.T) {
	p := newPool(3)
	defer p.close()
	var total atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 500 {
				p.do(5, 1e9, func(_, i int) { total.Add(int64(i)) })
			}
		}()
	}
	wg.Wait()
	if total.Load() != 8*500*10 {
		t.Errorf("sum of items %d, expected %d", total.Load(), 8*500*10)
	}
}

// TestPoolLeavesRoom counts what another goroutine gets done beside a pool
// that is kept hot on every processor.
func TestPoolLeavesRoom(t *testing.T) {
	p := newPool(0)
	defer p.close()
	var stop atomic.Bool
	ticks := make(chan struct{})
	go func() { // progress reports, say
		for range 20 {
			time.Sleep(time.Millisecond)
		}
		close(ticks)
	}()
	go func() {
		<-ticks
		stop.Store(true)
	}()
	for deadline := time.Now().Add(20 * time.Second); !stop.Load(); {
		if time.Now().After(deadline) {
			t.Fatal("20 ticks of a millisecond did not pass in 20 s beside a busy pool")
		}
		p.do(4, 1e9, func(_, _ int) {})
	}
}

// TestPoolParks says that idle workers leave the processors.
func TestPoolParks(t *testing.T) {
	p := newPool(3)
	defer p.close()
	p.do(3, 1e9, func(_, _ int) {})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if p.helpers[0].parked.Load() && p.helpers[1].parked.Load() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("idle helpers still spin after 20 s")
		}
	}
}

// TestQuota: forms of cgroup files.
func TestQuota(t *testing.T) {
	for text, want := range map[string]float64{
		"100000 100000": 1, "50000 100000": .5, "250000 100000": 2.5, // both versions
		"max 100000": 0, "-1 100000": 0, " ": 0, "": 0, "x 1": 0, "1 0": 0, "NaN 1": 0,
	} {
		if got := parseQuota(text); got != want {
			t.Errorf("%q: %v processors, expected %v", text, got, want)
		}
	}
}

// BenchmarkForkJoin compares one item of a few microseconds, on the caller,
// with one such item per worker: the difference is the price of sharing.
func BenchmarkForkJoin(b *testing.B) {
	p := newPool(0)
	defer p.close()
	t := &funcTask{func(_, _ int) { peakGeneric(1000) }}
	for _, c := range []struct {
		name  string
		items int
	}{{"alone", 1}, {"shared", p.workers}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			best := time.Hour
			for b.Loop() {
				start := time.Now()
				for range 100 {
					p.run(c.items, 1e9, t)
				}
				best = min(best, time.Since(start))
			}
			b.ReportMetric(float64(best.Nanoseconds())/100, "best-ns/loop")
		})
	}
}

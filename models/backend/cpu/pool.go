package cpu

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// pool runs loops on a fixed set of goroutines. Which worker runs which item
// never changes a result: items write disjoint outputs.
//
// Between the loops of a forward pass only a microsecond or so passes, less
// than waking a goroutine takes. So a worker that has run out of items first
// spins for a bounded time, giving way to other goroutines now and then, and
// parks only after that; an idle backend costs nothing.
type pool struct {
	workers int
	spin    bool // spinning workers have a processor each
	mu      sync.Mutex
	helpers []helper
	round   atomic.Uint64 // counts loops; its change is the start signal
	next    atomic.Int64  // next item of the round
	n       int64         // items of the round
	body    task          // what the round runs
	closed  atomic.Bool
	once    sync.Once
}

// task is the body of a loop. Long-lived tasks make loops without allocation.
type task interface {
	// item runs item i; worker names the scratch space that it may use.
	item(worker, i int)
}

type funcTask struct{ body func(worker, item int) }

func (f *funcTask) item(worker, i int) { f.body(worker, i) }

// helper is one worker beside the caller.
type helper struct {
	state  atomic.Int32 // its part in the round
	parked atomic.Bool
	wake   chan struct{} // one buffered token
	_      [48]byte      // own cache line
}

// The states of a helper in a round. A helper works only if it joins before
// the caller, out of items, gives it up: nobody waits for a goroutine that is
// slow to start.
const (
	invited int32 = iota
	joined
	finished
	givenUp
)

const (
	// spinTime passes before a worker parks. It covers the gaps between the
	// loops of a pass; more would only take time from others where there are
	// more runnable threads than processors.
	spinTime = 30 * time.Microsecond
	// pausesPerYield rounds of pauseCycles take about three microseconds:
	// other goroutines wait no longer than that for the processor of a
	// spinning worker.
	pausesPerYield = 64
	pauseCycles    = 2
)

func newPool(workers int) *pool {
	processors := runtime.GOMAXPROCS(0) // follows a container's CPU quota
	if workers <= 0 {
		workers = processors
		if workers > 1 && oneProcessor() {
			workers = 1
		}
	}
	p := &pool{workers: workers, spin: workers <= processors, helpers: make([]helper, workers-1)}
	for i := range p.helpers {
		p.helpers[i].wake = make(chan struct{}, 1)
		go p.help(i + 1)
	}
	return p
}

// help is the life of worker w.
func (p *pool) help(w int) {
	h := &p.helpers[w-1]
	for seen := uint64(0); !p.closed.Load(); {
		p.await(h, seen)
		seen = p.round.Load()
		if h.state.CompareAndSwap(invited, joined) {
			p.work(w)
			h.state.Store(finished)
		}
	}
}

// await returns when the round is no longer the one seen.
func (p *pool) await(h *helper, seen uint64) {
	if p.spin {
		for started := time.Now(); time.Since(started) < spinTime; runtime.Gosched() {
			for range pausesPerYield {
				if p.round.Load() != seen {
					return
				}
				pause(pauseCycles)
			}
		}
	}
	for {
		h.parked.Store(true)
		if p.round.Load() != seen {
			// Whoever takes the mark away owns the wake-up.
			if !h.parked.CompareAndSwap(true, false) {
				<-h.wake
			}
			return
		}
		<-h.wake
		if p.round.Load() != seen {
			return
		}
	}
}

func (p *pool) work(worker int) {
	for {
		i := p.next.Add(1) - 1
		if i >= p.n {
			return
		}
		p.body.item(worker, int(i))
	}
}

// worthSharing is the work, in floating-point operations, below which a loop
// stays on the caller: about the price of sharing it.
const worthSharing = 100_000

// do calls body for items 0..n-1; worker < p.workers names the scratch space
// that the call may use. cost is the work of the whole loop in floating-point
// operations: small loops stay on the caller.
func (p *pool) do(n int, cost float64, body func(worker, item int)) {
	p.run(n, cost, &funcTask{body})
}

// run is do for a task.
func (p *pool) run(n int, cost float64, t task) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n <= 1 || p.workers == 1 || cost < worthSharing {
		for i := 0; i < n; i++ {
			t.item(0, i)
		}
		return
	}
	p.body, p.n = t, int64(n)
	p.next.Store(0)
	p.start()
	p.work(0)
	for i := range p.helpers {
		h := &p.helpers[i]
		if h.state.CompareAndSwap(invited, givenUp) {
			continue
		}
		for spins := 1; h.state.Load() != finished; spins++ {
			// The helper is in its last item. It may have lost its processor
			// to another goroutine: then give way.
			if !p.spin || spins%pausesPerYield == 0 {
				runtime.Gosched()
			} else {
				pause(pauseCycles)
			}
		}
	}
	p.body = nil
}

// start begins a round on all helpers.
func (p *pool) start() {
	for i := range p.helpers {
		p.helpers[i].state.Store(invited)
	}
	p.round.Add(1)
	for i := range p.helpers {
		if h := &p.helpers[i]; h.parked.CompareAndSwap(true, false) {
			h.wake <- struct{}{}
		}
	}
}

// close ends the workers.
func (p *pool) close() {
	p.once.Do(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.n = 0
		p.closed.Store(true)
		p.start()
	})
}

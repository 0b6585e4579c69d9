package cpu

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// pool runs loops on a fixed set of goroutines. Which worker runs which item
// never changes a result: items write disjoint outputs.
type pool struct {
	workers int
	mu      sync.Mutex // one loop at a time
	jobs    chan *loop
	once    sync.Once
}

// loop is one parallel loop; workers take items by counting next up.
type loop struct {
	n    int64
	next atomic.Int64
	body func(worker, item int)
	wg   sync.WaitGroup
}

func newPool(workers int) *pool {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	p := &pool{workers: workers, jobs: make(chan *loop)}
	for w := 1; w < workers; w++ {
		go func() {
			for l := range p.jobs {
				l.work(w)
				l.wg.Done()
			}
		}()
	}
	return p
}

func (l *loop) work(worker int) {
	for {
		i := l.next.Add(1) - 1
		if i >= l.n {
			return
		}
		l.body(worker, int(i))
	}
}

// do calls body for items 0..n-1; worker < p.workers names the scratch space
// that the call may use. cost is the work of the whole loop in floating-point
// operations: small loops stay on the caller.
func (p *pool) do(n int, cost float64, body func(worker, item int)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	const worthSharing = 200_000 // about the price of waking a goroutine, in operations
	if n <= 1 || p.workers == 1 || cost < worthSharing {
		for i := 0; i < n; i++ {
			body(0, i)
		}
		return
	}
	l := &loop{n: int64(n), body: body}
	helpers := min(p.workers, n) - 1
	l.wg.Add(helpers)
	for i := 0; i < helpers; i++ {
		p.jobs <- l
	}
	l.work(0)
	l.wg.Wait()
}

func (p *pool) close() { p.once.Do(func() { close(p.jobs) }) }

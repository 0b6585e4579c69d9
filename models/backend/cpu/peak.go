package cpu

import (
	"math"
	"runtime"
	"time"
	"unsafe"
)

// limits are the measuring loops of an instruction set.
type limits struct {
	peak     func(n int) // n rounds of independent products and sums
	peakFlop int         // floating-point operations of a round
	read     func(x *float32, n int)
}

// Peak is what this machine can do at best, measured: the roof over every
// operation of the backend.
type Peak struct {
	Flops     float64 // float32 products and sums per second, rounded separately, operands in registers
	Bandwidth float64 // bytes per second read from a buffer too large for the caches
}

// MeasurePeak runs the measuring loops on all workers for about the given
// time each, several times over, and returns the best of the runs. bytes is
// the size of the buffer that is read; 0 = 256 MiB.
func (b *Backend) MeasurePeak(each time.Duration, bytes int) Peak {
	if bytes == 0 {
		bytes = 256 << 20
	}
	// best calls run(n), n chosen to take about a fifth of the time, five
	// times or more, and returns the largest n per second.
	best := func(n int, run func(n int)) float64 {
		timed := func() float64 {
			t := time.Now()
			run(n)
			return time.Since(t).Seconds()
		}
		for timed() < each.Seconds()/10 && n < math.MaxInt/4 {
			n *= 2
		}
		rate := 0.0
		for range 5 {
			rate = max(rate, float64(n)/timed())
		}
		return rate
	}
	workers := b.pool.workers
	every := func(body func(w int)) {
		// One item per worker; a run in which one worker took two is slow,
		// and the best run counts.
		b.pool.do(workers, math.Inf(1), func(_, i int) { body(i) })
	}
	var p Peak
	rounds := best(1000, func(n int) { every(func(int) { b.kernel.limits.peak(n) }) })
	p.Flops = rounds * float64(b.kernel.limits.peakFlop*workers)
	const step = 128 // floats
	part := max(1, bytes/4/workers/step) * step
	buffer := make([]float32, part*workers)
	for i := range buffer {
		buffer[i] = 1 // real pages
	}
	passes := best(1, func(n int) {
		for range n {
			every(func(w int) { b.kernel.limits.read(&buffer[w*part], part) })
		}
	})
	p.Bandwidth = passes * float64(4*len(buffer))
	runtime.KeepAlive(buffer)
	return p
}

// sink keeps the results of plain Go loops alive.
var sink float32

func peakGeneric(n int) {
	var s0, s1, s2, s3, s4, s5, s6, s7 float32
	x, y := float32(1e-30), float32(1e-8)
	for range n {
		s0 += float32(x * y)
		s1 += float32(x * s0)
		s2 += float32(x * y)
		s3 += float32(x * s2)
		s4 += float32(x * y)
		s5 += float32(x * s4)
		s6 += float32(x * y)
		s7 += float32(x * s6)
	}
	sink = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7
}

func readGeneric(x *float32, n int) {
	var s0, s1, s2, s3 float32
	for v := unsafe.Slice(x, n); len(v) >= 4; v = v[4:] {
		s0 += v[0]
		s1 += v[1]
		s2 += v[2]
		s3 += v[3]
	}
	sink = s0 + s1 + s2 + s3
}

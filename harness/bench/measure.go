// Package bench measures the parts of the program against floors of the
// machine and against rivals, for the verb bench.
//
//  1. Measure runs contestants in turn, round by round, and keeps the seconds of
//     every round (this file).
//  2. Codec (codec.go) measures formats of the boundary tensor and entropy
//     coders, CPU (cpu.go) measures products and whole passes of a model.
//  3. Both return a Report: tables for people, and results.Measurement rows that
//     hold the same numbers for programs (report.go).
package bench

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"time"
)

// Contestant is one program under measurement.
type Contestant struct {
	Name string
	// Work is what one operation does, in the unit in which rates are wanted
	// (symbols, tokens, floating-point operations, bytes).
	Work float64
	// Run does n operations.
	Run func(n int) error
	// Report, set instead of Run, does one operation and says itself how many
	// seconds it took: for programs that measure themselves.
	Report func() (seconds float64, err error)
	// Warm, if set, is what warms Run up; a measurement is then one operation.
	// It is for operations that last long.
	Warm func() error
}

// Timing says how contestants are measured.
type Timing struct {
	Rounds int           // measurements of each contestant, at least 1
	Least  time.Duration // duration that one measurement is made to reach by repeating the operation; 0 = one operation
	// Threads is the value of GOMAXPROCS during the measurement, 0 = as it is.
	Threads int
	// Clock returns monotonic seconds; nil is the system's clock.
	Clock func() float64
}

// DefaultTiming returns 7 rounds of at least 20 ms on one thread.
func DefaultTiming() Timing { return Timing{Rounds: 7, Least: 20 * time.Millisecond, Threads: 1} }

// Sample holds what was measured of one contestant.
type Sample struct {
	Name    string
	Work    float64   // of one operation
	Ops     int       // operations of one measurement
	Seconds []float64 // per operation, one value per round
}

// maxOps bounds the operations of one measurement.
const maxOps = 1 << 30

// Measure warms every contestant up, finds for each how many operations last
// t.Least, and then measures them in turn for t.Rounds rounds, so that a
// disturbance of the machine hits rivals alike. Garbage is collected before
// each round and not during it. Errors name the contestant. Cancelling ctx stops
// between measurements.
func Measure(ctx context.Context, list []Contestant, t Timing) ([]Sample, error) {
	if t.Rounds < 1 {
		return nil, fmt.Errorf("%d rounds, expected at least 1", t.Rounds)
	}
	clock := t.Clock
	if clock == nil {
		start := time.Now()
		clock = func() float64 { return time.Since(start).Seconds() }
	}
	if t.Threads > 0 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(t.Threads))
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	once := func(c *Contestant, ops int) (float64, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if c.Report != nil {
			s, err := c.Report()
			if err == nil && !(s > 0 && !math.IsInf(s, 1)) {
				err = fmt.Errorf("reports %v seconds", s)
			}
			return s, wrap(c.Name, err)
		}
		start := clock()
		err := c.Run(ops)
		return clock() - start, wrap(c.Name, err)
	}
	samples := make([]Sample, len(list))
	for i := range list {
		runtime.GC()
		c := &list[i]
		samples[i] = Sample{Name: c.Name, Work: c.Work, Ops: 1}
		if c.Warm != nil {
			if err := c.Warm(); err != nil {
				return nil, wrap(c.Name, err)
			}
		}
		if c.Report != nil || c.Warm != nil {
			continue
		}
		ops := 1
		for {
			s, err := once(c, ops)
			if err != nil {
				return nil, err
			}
			if s >= t.Least.Seconds() || ops == maxOps {
				break
			}
			// A tenth more than needed, and at most a hundred times as many:
			// the first operations are slower than the rest.
			grow := 100.0
			if s > 0 {
				grow = min(grow, 1.1*t.Least.Seconds()/s)
			}
			ops = min(maxOps, max(ops+1, int(math.Ceil(float64(ops)*grow))))
		}
		samples[i].Ops = ops
	}
	for range t.Rounds {
		runtime.GC()
		for i := range list {
			s, err := once(&list[i], samples[i].Ops)
			if err != nil {
				return nil, err
			}
			samples[i].Seconds = append(samples[i].Seconds, s/float64(samples[i].Ops))
		}
	}
	return samples, nil
}

func wrap(name string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Summary is a median with its spread.
type Summary struct {
	Median, Best, Q1, Q3 float64
	Rounds               int
}

// summarise returns the summary of values; best is the smallest, or with
// largest set the largest. Quartiles are interpolated linearly between order
// statistics.
func summarise(values []float64, largest bool) Summary {
	sorted := slices.Sorted(slices.Values(values))
	at := func(p float64) float64 {
		x := p * float64(len(sorted)-1)
		i := int(x)
		if i+1 >= len(sorted) {
			return sorted[len(sorted)-1]
		}
		return sorted[i] + (x-float64(i))*(sorted[i+1]-sorted[i])
	}
	s := Summary{Median: at(.5), Best: sorted[0], Q1: at(.25), Q3: at(.75), Rounds: len(sorted)}
	if largest {
		s.Best = sorted[len(sorted)-1]
	}
	return s
}

// Time summarises the seconds of one operation, times scale.
func (s *Sample) Time(scale float64) Summary {
	v := make([]float64, len(s.Seconds))
	for i, t := range s.Seconds {
		v[i] = t * scale
	}
	return summarise(v, false)
}

// Rate summarises the work done per second, times scale. Seconds of zero, which
// only a coarse clock gives, make an infinite rate.
func (s *Sample) Rate(scale float64) Summary {
	v := make([]float64, len(s.Seconds))
	for i, t := range s.Seconds {
		v[i] = s.Work / t * scale
	}
	return summarise(v, true)
}

// Ratio summarises how many times the rate of rival s reaches, round by round.
func (s *Sample) Ratio(rival *Sample) Summary {
	v := make([]float64, min(len(s.Seconds), len(rival.Seconds)))
	for i := range v {
		v[i] = s.Work / s.Seconds[i] / (rival.Work / rival.Seconds[i])
	}
	return summarise(v, true)
}

// find returns the sample of that name, nil if there is none.
func find(samples []Sample, name string) *Sample {
	for i := range samples {
		if samples[i].Name == name {
			return &samples[i]
		}
	}
	return nil
}

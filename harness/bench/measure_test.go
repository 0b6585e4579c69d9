package bench

import (
	"context"
	"errors"
	"math"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

// fakeClock counts the seconds that fake contestants say they take.
type fakeClock struct {
	now   float64
	order []string
	ops   map[string][]int
}

// contestant takes the given seconds per operation, one value per call, the
// last one for all later calls.
func (f *fakeClock) contestant(name string, work float64, seconds ...float64) Contestant {
	return Contestant{Name: name, Work: work, Run: func(n int) error {
		f.order = append(f.order, name)
		f.ops[name] = append(f.ops[name], n)
		f.now += seconds[0] * float64(n)
		if len(seconds) > 1 {
			seconds = seconds[1:]
		}
		return nil
	}}
}

func newFake() *fakeClock { return &fakeClock{ops: map[string][]int{}} }

func (f *fakeClock) timing(rounds int, least time.Duration) Timing {
	return Timing{Rounds: rounds, Least: least, Clock: func() float64 { return f.now }}
}

func TestMeasureInterleaves(t *testing.T) {
	f := newFake()
	// One warm-up call each, then a, b, a, b, ...: the machine is twice as slow
	// in the second round, for both.
	list := []Contestant{f.contestant("a", 10, 1, 1, 2, 1), f.contestant("b", 10, 3, 4, 8, 4)}
	got, err := Measure(context.Background(), list, f.timing(3, 0))
	if err != nil {
		t.Fatal(err)
	}
	if want := "a b a b a b a b"; strings.Join(f.order, " ") != want {
		t.Errorf("order %v, want %s", f.order, want)
	}
	want := []Sample{{"a", 10, 1, []float64{1, 2, 1}}, {"b", 10, 1, []float64{4, 8, 4}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("samples %+v, want %+v", got, want)
	}
	if r := got[0].Ratio(&got[1]); r.Median != 4 || r.Q1 != 4 || r.Q3 != 4 {
		t.Errorf("ratio %+v, want 4 in every round", r)
	}
	if r := got[0].Rate(1); r.Median != 10 || r.Best != 10 || r.Q1 != 7.5 {
		t.Errorf("rate %+v", r)
	}
}

func TestMeasureRepeatsShortOperations(t *testing.T) {
	f := newFake()
	got, err := Measure(context.Background(), []Contestant{f.contestant("short", 1, 1e-5), f.contestant("long", 1, .5)}, f.timing(2, 20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	// 1 and 100 operations are too short, 100 * 1.1 * 20 ms / 1 ms are enough.
	if want := []int{1, 100, 2200, 2200, 2200}; !reflect.DeepEqual(f.ops["short"], want) {
		t.Errorf("operations %v, want %v", f.ops["short"], want)
	}
	if got[0].Ops != 2200 || got[1].Ops != 1 {
		t.Errorf("operations %d and %d, want 2200 and 1", got[0].Ops, got[1].Ops)
	}
	if s := got[0].Time(1e6); math.Abs(s.Median-10) > 1e-6 {
		t.Errorf("%v microseconds per operation, want 10", s.Median)
	}
}

func TestMeasureReported(t *testing.T) {
	f := newFake()
	calls := 0
	own := Contestant{Name: "program", Work: 8, Report: func() (float64, error) { calls++; return 2, nil }}
	got, err := Measure(context.Background(), []Contestant{own, f.contestant("a", 8, 1)}, f.timing(3, time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if calls != 3 { // what measures itself needs no warm-up
		t.Errorf("%d calls, want 3", calls)
	}
	if r := got[1].Ratio(&got[0]); r.Median != 2 {
		t.Errorf("ratio %v, want 2", r.Median)
	}
	for _, bad := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		own.Report = func() (float64, error) { return bad, nil }
		if _, err := Measure(context.Background(), []Contestant{own}, f.timing(1, 0)); err == nil || !strings.Contains(err.Error(), "program: reports ") {
			t.Errorf("%v seconds: error %v", bad, err)
		}
	}
}

func TestMeasureFails(t *testing.T) {
	f := newFake()
	broken := errors.New("broken")
	_, err := Measure(context.Background(), []Contestant{{Name: "x", Run: func(int) error { return broken }}}, f.timing(1, 0))
	if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "x: ") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Measure(ctx, []Contestant{f.contestant("a", 1, 1)}, f.timing(1, 0)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: error %v", err)
	}
	if _, err := Measure(context.Background(), nil, Timing{}); err == nil {
		t.Error("no rounds are accepted")
	}
}

// TestMeasureSettings looks at the runtime's settings from inside a measurement
// and after it.
func TestMeasureSettings(t *testing.T) {
	threads, percent := runtime.GOMAXPROCS(0), debug.SetGCPercent(100)
	defer debug.SetGCPercent(percent)
	f := newFake()
	timing := f.timing(1, 0)
	timing.Threads = threads + 3
	look := Contestant{Name: "look", Run: func(int) error {
		if n := runtime.GOMAXPROCS(0); n != threads+3 {
			t.Errorf("GOMAXPROCS %d during the measurement, want %d", n, threads+3)
		}
		if p := debug.SetGCPercent(-1); p != -1 {
			t.Errorf("garbage collection at %d %% during the measurement, want off", p)
		}
		return nil
	}}
	if _, err := Measure(context.Background(), []Contestant{look}, timing); err != nil {
		t.Fatal(err)
	}
	if n := runtime.GOMAXPROCS(0); n != threads {
		t.Errorf("GOMAXPROCS %d afterwards, want %d", n, threads)
	}
	if p := debug.SetGCPercent(100); p != 100 {
		t.Errorf("garbage collection at %d %% afterwards, want 100", p)
	}
}

// TestSummarise compares with R's quantile type 7: quantile(c(1,2,4,8), ...) is
// 1.75, 3 and 5.
func TestSummarise(t *testing.T) {
	if s := summarise([]float64{8, 1, 4, 2}, false); s != (Summary{3, 1, 1.75, 5, 4}) {
		t.Errorf("%+v", s)
	}
	if s := summarise([]float64{8, 1, 4, 2}, true); s.Best != 8 {
		t.Errorf("%+v", s)
	}
	if s := summarise([]float64{7}, false); s != (Summary{7, 7, 7, 7, 1}) {
		t.Errorf("%+v", s)
	}
}

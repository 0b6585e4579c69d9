package sim

import (
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestServerVectors are runs computed by hand from the formulas of a step.
func TestServerVectors(t *testing.T) {
	s := shapeOf(t, "Llama-2-7B")
	if c, err := ServerCapacity(s, A6000()); c != 60793 || err != nil {
		t.Fatalf("capacity %d, %v, want 60793", c, err)
	}
	// holds is an A6000 with room for so many tokens.
	holds := func(tokens int) Server {
		v := A6000()
		v.MemoryBytes = (2*float64(s.TotalParameters) + v.ReserveBytes + (float64(tokens)+.5)*524288) / v.Utilization
		return v
	}
	edge := Offload{MaxTokens: 105, ActivationBits: 4, SecondsPerToken: .08, Channel: PaperChannel()}
	kv, far := edge, edge
	kv.IncludeKV, kv.Channel = true, Channel{FixedRate: 1e9}
	far.MaxTokens = 200
	one, two := [][]Job{{{0, 100, 10}}}, [][]Job{{{0, 100, 10}}, {{0, 100, 10}}}
	for _, test := range []struct {
		name                     string
		server                   Server
		offload                  Offload
		devices                  [][]Job
		residence, busy, end     float64
		visits, tokens, preempts int
	}{
		{"A", A6000(), Offload{}, one, 0.236389200, 0.236389200, 0.236389200, 1, 10, 0},
		{"B", A6000(), edge, one, 0.118158333, 0.118158333, 8.956844379, 1, 5, 0},
		{"C", A6000(), Offload{}, two, 0.500667597, 0.250333799, 0.250333799, 2, 20, 0},
		{"D", A6000(), Offload{}, [][]Job{{{0, 600, 3}}}, 0.161603292, 0.161603292, 0.161603292, 1, 3, 0},
		{"E", A6000(), far, one, 0, 0, 110 * .08, 0, 0, 0},
		{"F", holds(150), Offload{}, two, 0.709167600, 0.472778400, 0.472778400, 2, 20, 0},
		{"G", holds(210), Offload{}, two, 0.617412864, 0.367785599, 0.367785599, 2, 20, 1},
		{"H", A6000(), kv, one, 0.118247933, 0.118247933, 8.628348413, 1, 5, 0},
	} {
		l, err := SimulateServer(s, test.server, test.offload, Closed, test.devices)
		if err != nil {
			t.Fatal(err)
		}
		near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-9 }
		if !near(l.Residence, test.residence) || !near(l.Busy, test.busy) || !near(l.Makespan, test.end) ||
			l.Visits != test.visits || l.Tokens != test.tokens || l.Preemptions != test.preempts || l.Jobs != len(test.devices) {
			t.Errorf("%s: %+v, want %+v", test.name, l, test)
		}
	}
}

// TestStaticByHand: two jobs of unlike lengths are prefilled together and leave together.
func TestStaticByHand(t *testing.T) {
	s := shapeOf(t, "Llama-2-7B")
	v := A6000()
	v.Schedule = Static
	l, err := SimulateServer(s, v, Offload{}, Closed, [][]Job{{{0, 100, 10}}, {{0, 50, 3}}})
	if err != nil {
		t.Fatal(err)
	}
	// 2 · 100 prompt tokens, of which 50 are padding; then nine steps, each with two tokens more.
	weights, token := 2*6607343616.0/(768e9*.8), 524288/(768e9*.8)
	want := .002 + 2*5e-5 + 2*6607343616*200/(154.8e12*.5)
	for k := range 9 {
		want += .002 + 2*5e-5 + weights + token*float64(202+2*k)
	}
	if math.Abs(l.Busy-want) > 1e-9 || math.Abs(l.Residence-2*want) > 1e-9 || l.Steps != 10 {
		t.Errorf("%+v, want %v s in 10 steps", l, want)
	}
	// Three jobs that do not fit together take turns: 2 · 110 tokens fit, 3 · 110 do not.
	v.MemoryBytes = (2*float64(s.TotalParameters) + v.ReserveBytes + 300*524288) / v.Utilization
	job := []Job{{0, 100, 10}}
	if l, err = SimulateServer(s, v, Offload{}, Closed, [][]Job{job, job, job}); err != nil || l.Steps != 20 {
		t.Errorf("%+v, %v, want two batches of 10 steps", l, err)
	}
}

// TestArrivals: a Poisson device does not wait for its jobs, a closed one does, and a burst does not think.
func TestArrivals(t *testing.T) {
	s := shapeOf(t, "Llama-2-7B")
	jobs := [][]Job{{{1, 100, 10}, {1, 100, 10}}}
	const alone = 0.236389200
	for a, want := range map[Arrival]float64{Closed: 2 + 2*alone, Burst: 2 * alone, Poisson: 2 + alone} {
		l, err := SimulateServer(s, A6000(), Offload{}, a, jobs)
		if err != nil || math.Abs(l.Makespan-want) > 1e-8 || math.Abs(l.Residence-2*alone) > 1e-8 {
			t.Errorf("arrival %d: %+v, %v, want an end at %v", a, l, err, want)
		}
	}
	jobs[0][1].ThinkSeconds = 0 // arrives with the first
	l, err := SimulateServer(s, A6000(), Offload{}, Poisson, jobs)
	if err != nil || math.Abs(l.Residence-0.500667597) > 1e-8 {
		t.Errorf("two at once: %+v, %v", l, err)
	}
}

// arm is one curve of the table of TestServerTable.
type arm struct {
	arrival Arrival
	static  bool
	wbar    int
}

// sample is the mean over seeds, and their standard deviation.
type sample struct{ mean, deviation float64 }

func sampleOf(xs []float64) sample {
	var s sample
	n := float64(len(xs))
	for _, x := range xs {
		s.mean += x / n
	}
	for _, x := range xs {
		s.deviation += (x - s.mean) * (x - s.mean) / (n - 1)
	}
	s.deviation = math.Sqrt(s.deviation)
	return s
}

// minutes runs an arm with some seeds and returns the residence and busy time in minutes.
func minutes(t *testing.T, a arm, devices, seeds int) (residence, busy sample) {
	t.Helper()
	v, w := A6000(), DefaultWorkload()
	if a.static {
		v.Schedule, v.MaxSequences = Static, 16
	}
	if a.arrival == Burst {
		w.Jobs = 1
	}
	var r, b []float64
	for seed := range seeds {
		jobs, err := w.Draw(devices, uint64(seed))
		if err != nil {
			t.Fatal(err)
		}
		l, err := SimulateServer(shapeOf(t, "Llama-2-7B"), v, Offload{MaxTokens: a.wbar, ActivationBits: 4, SecondsPerToken: .08, Channel: PaperChannel()}, a.arrival, jobs)
		if err != nil {
			t.Fatal(err)
		}
		r, b = append(r, l.Residence/60), append(b, l.Busy/60)
	}
	return sampleOf(r), sampleOf(b)
}

// TestServerTable compares with another implementation of the same model, whose random numbers are others:
// minutes of residence and busy time, means over ten seeds of its own. They agree within 5 %, or, where few
// jobs are behind a point, within three standard errors of the difference of its mean and ours. All points run with
// SPLITBENCH_FULL=1.
func TestServerTable(t *testing.T) {
	const seeds = 40
	none := math.NaN()
	all := []int{1, 4, 16, 32, 64, 100, 150, 200}
	for _, c := range []struct {
		arm
		devices         []int
		residence, busy []float64
	}{
		{arm{Closed, false, 0}, all, []float64{1.41, 5.62, 24.93, 56.40, 142.7, 278.2, 541.8, 910.5}, []float64{1.41, 2.51, 3.02, 3.37, 4.03, 4.72, 5.62, 6.64}},
		{arm{Closed, false, 250}, all, []float64{.94, 3.58, 15.23, 32.38, 74.3, 133.7, 247.4, 403.7}, []float64{.94, 2.67, 5.07, 5.64, 6.07, 6.35, 6.80, 7.28}},
		{arm{Closed, false, 350}, all, []float64{.62, 2.25, 9.51, 19.89, 44.5, 77.2, 137.5, 216.8}, []float64{.62, 1.89, 4.92, 5.94, 6.57, 6.78, 7.05, 7.34}},
		{arm{Burst, false, 0}, []int{1, 4, 16, 64, 100, 200}, []float64{.14, .56, 2.53, 15.24, 29.5, 91.3}, []float64{none, none, none, .49, none, none}},
		{arm{Burst, false, 250}, []int{1, 4, 16, 64, 100, 200}, []float64{.09, .37, 1.69, 11.20, 22.3, 70.6}, []float64{none, none, none, .44, none, none}},
		{arm{Burst, false, 350}, []int{1, 4, 16, 64, 100, 200}, []float64{.06, .23, 1.05, 7.28, 14.5, 45.1}, []float64{none, none, none, .38, none, none}},
		{arm{Closed, true, 0}, []int{16, 64, 100}, []float64{81, 962, 2364}, []float64{6.2, 16.5, 25.8}},
		{arm{Closed, true, 250}, []int{16, 64, 100}, []float64{44, 546, 1528}, []float64{7.0, 13.4, 20.6}},
		{arm{Closed, true, 350}, []int{16, 64, 100}, []float64{24, 280, 856}, []float64{6.1, 10.6, 15.5}},
	} {
		for i, n := range c.devices {
			if os.Getenv("SPLITBENCH_FULL") != "1" && n != 16 {
				continue
			}
			residence, busy := minutes(t, c.arm, n, seeds)
			for _, v := range []struct {
				what string
				got  sample
				want float64
			}{{"residence", residence, c.residence[i]}, {"busy", busy, c.busy[i]}} {
				digits := .005 // of the printed number
				if v.want >= 100 {
					digits = .5
				}
				stderr := v.got.deviation * math.Sqrt(1./10+1./seeds)
				if d := math.Abs(v.got.mean - v.want); d > digits+math.Max(.05*v.want, 3*stderr) {
					t.Errorf("%+v, %d devices: %s %.3f min, want %v ± %.3f", c.arm, n, v.what, v.got.mean, v.want, stderr)
				} else if !math.IsNaN(v.want) {
					t.Logf("%+v, %d devices: %s %.3f min, want %v ± %.3f: %+.1f %%", c.arm, n, v.what, v.got.mean, v.want, stderr, 100*(v.got.mean/v.want-1))
				}
			}
		}
	}
}

// TestServerTokens is Fig. 5(b): tokens that the server generates per request.
func TestServerTokens(t *testing.T) {
	w := DefaultWorkload()
	for wbar, want := range map[int]float64{0: 349.3, 50: 348.9, 100: 339.3, 150: 310.9, 200: 270.7, 250: 226.2, 300: 182.6, 350: 143.3, 400: 109.8, 450: 82.4, 500: 60.9, 600: 32.2, 800: 8.3, 1000: 1.7} {
		got, err := w.ServerTokens(Offload{MaxTokens: wbar})
		if err != nil || math.Abs(got-want) > .01*want+.05 {
			t.Errorf("W-bar %d: %v tokens, %v, want %v", wbar, got, err, want)
		}
	}
	// Where W-bar counts generated tokens, the prompt does not matter: E max(0, o - W).
	fixed := Workload{Jobs: 1, Prompt: Lengths{Mean: 100, Min: 1, Max: 200}, Output: Lengths{Mean: 40, Min: 1, Max: 200}}
	for wbar, want := range map[int]float64{0: 40, 30: 10, 40: 0, 41: 0} {
		if got, err := fixed.ServerTokens(Offload{MaxTokens: wbar, Generated: true}); err != nil || math.Abs(got-want) > 1e-12 {
			t.Errorf("%d generated tokens: %v, %v, want %v", wbar, got, err, want)
		}
	}
	// The drawn jobs have the mean of the expectation.
	jobs, err := w.Draw(2000, 1)
	if err != nil {
		t.Fatal(err)
	}
	sum, n := 0.0, 0
	for _, d := range jobs {
		for _, j := range d {
			v, _, _, _ := Offload{MaxTokens: 250}.visitOf(Shape{}, j)
			sum += float64(v.generate)
			n++
		}
	}
	if mean := sum / float64(n); math.Abs(mean/226.2-1) > .02 {
		t.Errorf("%v tokens in %d drawn jobs, want 226.2", mean, n)
	}
}

// productForm solves the closed loop of n devices as a network of a station that delays and one that shares
// a processor whose speed depends on how many are there: the mean residence in seconds of a visit.
func productForm(v serving, n int, delay, tokens, context float64, visits []visit) float64 {
	rate := make([]float64, n+1) // of leaving the server, with k there
	for k := 1; k <= n; k++ {
		m := float64(min(k, int(float64(v.capacity)/context)))
		step := v.StepSeconds + v.SequenceSeconds*m + (v.weightBytes+v.kvBytes*m*context)/(v.MemoryBandwidth*v.MemoryEfficiency)
		// A prefill delays everyone by what it computes beyond the time of reading.
		extra := 0.0
		for _, w := range visits {
			extra += math.Max(0, 2*v.linear*(float64(w.prefill)+m-1)/(v.FLOPS*v.FLOPEfficiency)-(v.weightBytes+v.kvBytes*m*context)/(v.MemoryBandwidth*v.MemoryEfficiency)) / float64(len(visits))
		}
		rate[k] = 1 / (tokens*step/m + extra)
	}
	// pi(k) ~ Z^(N-k)/(N-k)! · product of 1/mu, by logarithms.
	logs, top := make([]float64, n+1), math.Inf(-1)
	product := 0.0
	for k := 0; k <= n; k++ {
		if k > 0 {
			product -= math.Log(rate[k])
		}
		g, _ := math.Lgamma(float64(n - k + 1))
		logs[k] = float64(n-k)*math.Log(delay) - g + product
		top = math.Max(top, logs[k])
	}
	sum, there, leaving := 0.0, 0.0, 0.0
	for k, l := range logs {
		p := math.Exp(l - top)
		sum += p
		there += p * float64(k)
		leaving += p * rate[k]
	}
	return there / leaving
}

// TestProductForm: the simulator agrees with the product form of a closed queueing network.
func TestProductForm(t *testing.T) {
	s := shapeOf(t, "Llama-2-7B")
	v, err := A6000().serve(s)
	if err != nil {
		t.Fatal(err)
	}
	perBit, err := PaperChannel().SecondsPerBit()
	if err != nil {
		t.Fatal(err)
	}
	counts := []int{16, 64}
	if os.Getenv("SPLITBENCH_FULL") == "1" {
		counts = []int{1, 4, 16, 32, 64, 100, 150, 200}
	}
	w := DefaultWorkload()
	w.Jobs = 20
	for _, wbar := range []int{0, 250, 350} {
		o := Offload{MaxTokens: wbar, ActivationBits: 4, SecondsPerToken: .08, Channel: PaperChannel()}
		for _, n := range counts {
			jobs, err := w.Draw(n, 5)
			if err != nil {
				t.Fatal(err)
			}
			l, err := SimulateServer(s, A6000(), o, Closed, jobs)
			if err != nil {
				t.Fatal(err)
			}
			var visits []visit
			delay, tokens, contexts := 0.0, 0.0, 0.0
			for _, d := range jobs {
				for _, j := range d {
					u, edge, bits, seen := o.visitOf(s, j)
					delay += j.ThinkSeconds + float64(edge)*o.SecondsPerToken + bits*perBit
					if !seen {
						continue
					}
					visits = append(visits, u)
					tokens += float64(u.generate)
					for k := range u.generate {
						contexts += float64(u.context + u.prefill + k)
					}
				}
			}
			m := float64(len(visits))
			want := productForm(v, n, delay/m, tokens/m, contexts/tokens, visits)
			got := l.Residence / float64(l.Visits)
			t.Logf("W-bar %d, %d devices: %.3f s, product form %.3f s", wbar, n, got, want)
			if math.Abs(got/want-1) > .1 {
				t.Errorf("W-bar %d, %d devices: %.3f s of residence, product form %.3f s", wbar, n, got, want)
			}
		}
	}
}

// TestServerDraws: the jobs of a device are its own, and a run is the same again.
func TestServerDraws(t *testing.T) {
	w := DefaultWorkload()
	few, err := w.Draw(3, 9)
	if err != nil {
		t.Fatal(err)
	}
	w.Jobs = 4
	many, err := w.Draw(8, 9)
	if err != nil {
		t.Fatal(err)
	}
	for d := range few {
		if !reflect.DeepEqual(few[d][:4], many[d]) {
			t.Errorf("device %d has other jobs among more devices", d)
		}
	}
	if reflect.DeepEqual(many[0], many[1]) {
		t.Error("two devices have the same jobs")
	}
	o := Offload{MaxTokens: 250, ActivationBits: 4, SecondsPerToken: .08, Channel: PaperChannel()}
	a, err := SimulateServer(shapeOf(t, "Llama-2-7B"), A6000(), o, Closed, many)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := SimulateServer(shapeOf(t, "Llama-2-7B"), A6000(), o, Closed, many); err != nil || a != b {
		t.Errorf("%+v and %+v, %v", a, b, err)
	}
}

func TestServerFaults(t *testing.T) {
	s := shapeOf(t, "Llama-2-7B")
	ok := [][]Job{{{0, 1, 1}}}
	run := func(v Server, o Offload, jobs [][]Job) error {
		_, err := SimulateServer(s, v, o, Closed, jobs)
		return err
	}
	server := func(change func(*Server)) Server {
		v := A6000()
		change(&v)
		return v
	}
	edge := Offload{MaxTokens: 5, ActivationBits: 4, Channel: PaperChannel()}
	offload := func(change func(*Offload)) Offload {
		o := edge
		change(&o)
		return o
	}
	for want, err := range map[string]error{
		"leave no memory for a token":                          run(server(func(v *Server) { v.MemoryBytes = 14e9 }), edge, ok),
		"chunk of the server is 0":                             run(server(func(v *Server) { v.Chunk = 0 }), edge, ok),
		"memory efficiency of the server is NaN, expected":     run(server(func(v *Server) { v.MemoryEfficiency = math.NaN() }), edge, ok),
		"activation width is 0 bits, expected 1 to 16":         run(A6000(), offload(func(o *Offload) { o.ActivationBits = 0 }), ok),
		"the edge's tokens are -1":                             run(A6000(), offload(func(o *Offload) { o.MaxTokens = -1 }), ok),
		"a token on the edge takes -1 s":                       run(A6000(), offload(func(o *Offload) { o.SecondsPerToken = -1 }), ok),
		"target outage is 1":                                   run(A6000(), offload(func(o *Offload) { o.Channel.Outage = 1 }), ok),
		"SNR is 0":                                             run(A6000(), offload(func(o *Offload) { o.Channel.SNR = 0 }), ok),
		"the rate is -1 bit/s":                                 run(A6000(), offload(func(o *Offload) { o.Channel.FixedRate = -1 }), ok),
		"job 0 of device 0 is {ThinkSeconds:0 Prompt:0 Output": run(A6000(), edge, [][]Job{{{0, 0, 1}}}),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), "sim: ") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want a line with %q", err, want)
		}
	}
	w := DefaultWorkload()
	w.Prompt.Min = 0
	if _, err := w.Draw(1, 1); err == nil || !strings.Contains(err.Error(), "prompt lengths are") {
		t.Errorf("a prompt of no tokens: %v", err)
	}
}

// TestRoofline: reading the weights of a token on the paper's edge device (59.7 GB/s).
func TestRoofline(t *testing.T) {
	for _, c := range []struct {
		model      string
		bits       int64
		efficiency float64
		want       float64 // ms
	}{{"Llama-2-7B", 4, 1, 58.6}, {"Llama-2-7B", 4, .7, 83.8}, {"Llama-2-7B", 8, 1, 112.9}, {"Llama-2-7B", 16, 1, 221.4}, {"Llama-2-13B", 4, 1, 111.8}} {
		got, err := RooflineSecondsPerToken(shapeOf(t, c.model), c.bits, 59.7e9, c.efficiency)
		if err != nil || math.Abs(1e3*got-c.want) > .06 {
			t.Errorf("%s at %d bits: %v ms, %v, want %v", c.model, c.bits, 1e3*got, err, c.want)
		}
	}
}

// TestChannel compares with the corners of Eq. 9 at the paper's parameters, computed elsewhere.
func TestChannel(t *testing.T) {
	c := PaperChannel()
	for _, want := range []struct {
		n           int
		rate, po    float64
		perMegabits float64
	}{
		{1, 143624.398, 0.001, 6.962605347}, {2, 4019970.898, 0.031622777, 0.497516040}, {3, 10381588.236, 0.1, 0.288973125},
		{4, 15646493.079, 0.177827941, 0.255648341}, {5, 19607644.458, 0.251188643, 0.255002584}, {6, 22634263.090, 0.316227766, 0.265084840},
	} {
		r := c.corner(want.n)
		if math.Abs(r-want.rate) > 1e-3 || math.Abs(c.OutageProbability(r)-want.po) > 1e-9 || math.Abs(1e6*float64(want.n)/r-want.perMegabits) > 1e-9 {
			t.Errorf("n = %d: rate %.3f, outage %.9f", want.n, r, c.OutageProbability(r))
		}
	}
	if r, n, err := c.BestRate(); n != 5 || math.Abs(r-19607644.458) > 1e-3 || err != nil {
		t.Errorf("best rate %v with %d attempts, %v", r, n, err)
	}
	perBit, err := c.SecondsPerBit()
	if err != nil {
		t.Fatal(err)
	}
	for bits, want := range map[float64]float64{65536: 0.016711849, 16384: 0.004177962, 819200: 0.208898117, 4096000: 1.044490583, 5734400: 1.462286817} {
		if got := bits * perBit; math.Abs(got-want) > 1e-9 {
			t.Errorf("%v bits take %v s, want %v", bits, got, want)
		}
	}
	// No rate of a fine grid is better.
	for _, snr := range []float64{.1, 1, 10, 1000} {
		for _, outage := range []float64{.1, 1e-3, 1e-9} {
			c := Channel{BandwidthHz: 10e6, SNR: snr, Outage: outage}
			best, err := c.SecondsPerBit()
			if err != nil {
				t.Fatal(err)
			}
			for r := 1e4; r < 3e8; r *= 1.002 {
				po := c.OutageProbability(r)
				if po == 1 {
					break
				}
				n := math.Max(1, math.Ceil(math.Log(outage)/math.Log(po)-1e-9))
				if n/r < best*(1-1e-9) {
					t.Fatalf("SNR %v, outage %v: %v s per bit at %v bit/s, best %v", snr, outage, n/r, r, best)
				}
			}
		}
	}
}

func BenchmarkServer(b *testing.B) {
	s, err := Models()[0].Dimensions.Shape()
	if err != nil {
		b.Fatal(err)
	}
	jobs, err := DefaultWorkload().Draw(100, 1)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := SimulateServer(s, A6000(), Offload{}, Closed, jobs); err != nil {
			b.Fatal(err)
		}
	}
}

// TestServerTokensDoubleSum compares with the sum over all pairs of lengths.
func TestServerTokensDoubleSum(t *testing.T) {
	w := DefaultWorkload()
	short := Workload{Jobs: 1, Prompt: Lengths{30, 1, 7, 90}, Output: Lengths{20, 2, 5, 60}}
	point := Workload{Jobs: 1, Prompt: Lengths{30, 0, 30, 30}, Output: Lengths{20, 0, 20, 20}}
	for _, w := range []Workload{w, short, point} {
		for _, o := range []Offload{{}, {MaxTokens: 1}, {MaxTokens: 4}, {MaxTokens: 35}, {MaxTokens: 37}, {MaxTokens: 100}, {MaxTokens: 350}, {MaxTokens: 1000}, {MaxTokens: 5000}} {
			for _, o.Generated = range []bool{false, true} {
				want := 0.0
				for i, p := range w.Prompt.probabilities() {
					for k, q := range w.Output.probabilities() {
						v, _, _, _ := o.visitOf(Shape{}, Job{Prompt: w.Prompt.Min + i, Output: w.Output.Min + k})
						want += p * q * float64(v.generate)
					}
				}
				if got, err := w.ServerTokens(o); err != nil || !(math.Abs(got-want) <= 1e-12*want) {
					t.Errorf("%+v, %+v: %v tokens, %v, want %v", w, o, got, err, want)
				}
			}
		}
	}
}

// TestLongJob: a job that fills the cache runs, one with a token more does not, unless it ends on the edge.
func TestLongJob(t *testing.T) {
	s := shapeOf(t, "Llama-2-7B")
	v := A6000()
	c, err := ServerCapacity(s, v)
	if err != nil {
		t.Fatal(err)
	}
	for _, v.Schedule = range []Schedule{Continuous, Static} {
		fits, long := [][]Job{{{0, c - 10, 10}}}, [][]Job{{{0, 5, 5}}, {{0, 5, 5}, {0, c - 9, 10}}}
		if l, err := SimulateServer(s, v, Offload{}, Closed, fits); err != nil || l.Tokens != 10 {
			t.Errorf("a job of the size of the cache: %+v, %v", l, err)
		}
		if _, err := SimulateServer(s, v, Offload{}, Closed, long); err == nil || !strings.Contains(err.Error(), "job 1 of device 1 has 60784 tokens of prompt and 10 of output, expected at most the 60793 ") {
			t.Errorf("a job larger than the cache: %v", err)
		}
		edge := Offload{MaxTokens: c + 1, ActivationBits: 4, Channel: PaperChannel()}
		if l, err := SimulateServer(s, v, edge, Closed, long); err != nil || l.Visits != 0 {
			t.Errorf("a job larger than the cache on the edge: %+v, %v", l, err)
		}
	}
}

// TestPoissonEdge: the edge's parts of jobs that overlap wait for each other.
func TestPoissonEdge(t *testing.T) {
	s := shapeOf(t, "Llama-2-7B")
	o := Offload{MaxTokens: 200, ActivationBits: 4, SecondsPerToken: .08, Channel: PaperChannel()}
	// Jobs of 8.8 s at 1, 2 and 30 s: the second waits for the first, the third for none.
	l, err := SimulateServer(s, A6000(), o, Poisson, [][]Job{{{1, 100, 10}, {1, 100, 10}}})
	if err != nil || math.Abs(l.Makespan-(1+2*8.8)) > 1e-9 {
		t.Errorf("two jobs: %+v, %v, want an end at %v", l, err, 1+2*8.8)
	}
	l, err = SimulateServer(s, A6000(), o, Poisson, [][]Job{{{1, 100, 10}, {1, 100, 10}, {28, 100, 10}}})
	if err != nil || math.Abs(l.Makespan-(30+8.8)) > 1e-9 {
		t.Errorf("three jobs: %+v, %v, want an end at %v", l, err, 30+8.8)
	}
}

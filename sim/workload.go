package sim

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Lengths is a distribution of numbers of tokens: log-normal with a mean and a coefficient of variation
// before it is rounded and cut to a range.
type Lengths struct {
	Mean, CV float64
	Min, Max int
}

func (l Lengths) check(what string) error {
	if !(l.Mean > 0 && l.Mean <= 1e9 && l.CV >= 0 && l.CV <= 1e3 && l.Min >= 1 && l.Max >= l.Min && l.Max <= math.MaxInt32) {
		return fmt.Errorf("sim: %s lengths are %+v, expected a mean above 0 and a range of at least 1 token", what, l)
	}
	return nil
}

// normal returns mean and deviation of the logarithm.
func (l Lengths) normal() (mu, sigma float64) {
	s2 := math.Log1p(l.CV * l.CV)
	return math.Log(l.Mean) - s2/2, math.Sqrt(s2)
}

func (l Lengths) draw(r *rand.Rand) int {
	mu, sigma := l.normal()
	x := math.Round(math.Exp(mu + sigma*r.NormFloat64()))
	return int(math.Min(math.Max(x, float64(l.Min)), float64(l.Max)))
}

// probabilities returns the probability of each length from Min to Max.
func (l Lengths) probabilities() []float64 {
	mu, sigma := l.normal()
	below := func(x float64) float64 { // P(length < x)
		if sigma == 0 {
			if x > l.Mean {
				return 1
			}
			return 0
		}
		return math.Erfc((mu-math.Log(x))/(sigma*math.Sqrt2)) / 2
	}
	out := make([]float64, l.Max-l.Min+1)
	last := 0.0
	for i := range out {
		up := 1.0
		if i < len(out)-1 {
			up = below(float64(l.Min+i) + .5)
		}
		out[i], last = up-last, up
	}
	return out
}

// A Workload is what devices ask for.
type Workload struct {
	Jobs           int // of each device
	ThinkSeconds   float64
	Prompt, Output Lengths
}

// DefaultWorkload is ten jobs a device, with 5 s between them, prompts of about 128 and outputs of about 350
// tokens.
func DefaultWorkload() Workload {
	return Workload{Jobs: 10, ThinkSeconds: 5, Prompt: Lengths{128, .5, 16, 512}, Output: Lengths{350, .5, 16, 1024}}
}

func (w Workload) check() error {
	if w.Jobs < 1 || !(w.ThinkSeconds >= 0) || math.IsInf(w.ThinkSeconds, 0) {
		return fmt.Errorf("sim: %d jobs with %v s between them, expected at least one job", w.Jobs, w.ThinkSeconds)
	}
	if err := w.Prompt.check("prompt"); err != nil {
		return err
	}
	return w.Output.check("output")
}

// Draw returns the jobs of some devices. Every device has a random stream of its own, so that the jobs of
// one do not depend on how many there are, or on how many jobs each has: arms that are compared see the same.
func (w Workload) Draw(devices int, seed uint64) ([][]Job, error) {
	if err := w.check(); err != nil {
		return nil, err
	}
	out := make([][]Job, devices)
	for d := range out {
		r := rand.New(rand.NewPCG(seed, uint64(d)))
		for range w.Jobs {
			out[d] = append(out[d], Job{w.ThinkSeconds * r.ExpFloat64(), w.Prompt.draw(r), w.Output.draw(r)})
		}
	}
	return out, nil
}

// ServerTokens returns the expected number of tokens that the server generates for a job of the workload.
func (w Workload) ServerTokens(o Offload) (float64, error) {
	if err := w.check(); err != nil {
		return 0, err
	}
	if o.MaxTokens < 0 {
		return 0, fmt.Errorf("sim: the edge's tokens are %d, expected 0 or more", o.MaxTokens)
	}
	// The edge generates the first e tokens of an output, where e depends on the prompt alone; excess[i] is the
	// expected number of tokens beyond e = Min - 1 + i.
	outputs := w.Output.probabilities()
	excess := make([]float64, len(outputs)+1)
	longer := 0.0 // probability of an output beyond e
	for i := len(outputs) - 1; i >= 0; i-- {
		longer += outputs[i]
		excess[i] = excess[i+1] + longer
	}
	beyond := func(e int) float64 {
		i := e - (w.Output.Min - 1)
		switch {
		case i < 0:
			return excess[0] - float64(i)*longer
		case i < len(excess):
			return excess[i]
		}
		return 0
	}
	if o.Generated {
		return beyond(o.MaxTokens), nil
	}
	sum := 0.0
	for i, p := range w.Prompt.probabilities() {
		sum += p * beyond(max(0, o.MaxTokens-(w.Prompt.Min+i)))
	}
	return sum, nil
}

// RooflineSecondsPerToken returns the time of one token on an edge that holds all layers at a width and the
// output head in 16 bits, when reading them at a bandwidth (bytes per second) is all that takes time.
func RooflineSecondsPerToken(s Shape, weightBits int64, bandwidth, efficiency float64) (float64, error) {
	layer, err := LayerWeightBits(s, weightBits, Plain)
	if err != nil {
		return 0, err
	}
	if !(bandwidth > 0 && efficiency > 0 && efficiency <= 1) {
		return 0, fmt.Errorf("sim: %v bytes/s with an efficiency of %v, expected more than 0 and up to 1", bandwidth, efficiency)
	}
	var c counter
	bits := c.add(c.mul(s.Layers, layer), c.mul(s.Vocab, s.Hidden, 16))
	return float64(bits) / 8 / (bandwidth * efficiency), c.err
}

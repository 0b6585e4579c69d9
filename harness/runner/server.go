package runner

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"splitbench/experiments/spec"
	"splitbench/models/checkpoint"
	"splitbench/results"
	"splitbench/sim"
)

// shapeOf returns what the models of memory and of the server need of a configuration.
func shapeOf(c checkpoint.Config) sim.Shape {
	perLayer, total := c.ParameterCount()
	s := sim.Shape{
		Layers: int64(c.Layers), Hidden: int64(c.HiddenSize), KVWidth: int64(c.KVWidth()), Vocab: int64(c.VocabSize),
		LayerParameters: perLayer, EmbeddingRows: 2 * int64(c.VocabSize), TotalParameters: total,
	}
	if c.TiedEmbeddings {
		s.EmbeddingRows = s.Vocab
	}
	return s
}

// servedModel is a model on the modelled server.
type servedModel struct {
	Name  string
	Shape sim.Shape
}

// serverModels returns the models of the spec, and the published ones it names.
func serverModels(w *Workbench, s *spec.Spec) ([]servedModel, error) {
	var out []servedModel
	for _, m := range s.Models {
		c, err := w.Config(m)
		if err != nil {
			return nil, err
		}
		out = append(out, servedModel{m.Name, shapeOf(c)})
	}
	for _, m := range sim.Models() {
		if !slices.Contains(s.Server.Shapes, m.Name) || slices.ContainsFunc(out, func(o servedModel) bool { return o.Name == m.Name }) {
			continue
		}
		shape, err := m.Dimensions.Shape()
		if err != nil {
			return nil, err
		}
		out = append(out, servedModel{m.Name, shape})
	}
	return out, nil
}

// serverOf, channelOf, workloadOf and offloadOf are the parts of the simulation that a spec describes.
func serverOf(s *spec.Server, panel string) sim.Server {
	out := sim.Server{
		MemoryBandwidth: s.MemoryBandwidth, MemoryEfficiency: s.MemoryEfficiency, FLOPS: s.FLOPS, FLOPEfficiency: s.FLOPEfficiency,
		MemoryBytes: s.MemoryBytes, Utilization: s.Utilization, ReserveBytes: s.ReserveBytes,
		StepSeconds: s.StepSeconds, SequenceSeconds: s.SequenceSeconds, MaxSequences: s.MaxSequences, Chunk: s.Chunk,
	}
	if panel == spec.PanelStatic {
		out.Schedule, out.MaxSequences = sim.Static, s.StaticMaxSequences
	}
	return out
}

func channelOf(c spec.ServerChannel) sim.Channel {
	return sim.Channel{BandwidthHz: c.BandwidthHz, SNR: c.SNR, Gain: c.Gain, Outage: c.Outage, FixedRate: c.Rate}
}

func workloadOf(w spec.ServerWorkload, panel string) sim.Workload {
	lengths := func(l spec.ServerLengths) sim.Lengths { return sim.Lengths(l) }
	out := sim.Workload{Jobs: w.Jobs, ThinkSeconds: w.ThinkSeconds, Prompt: lengths(w.Prompt), Output: lengths(w.Output)}
	if panel == spec.PanelBurst {
		out.Jobs = 1
	}
	return out
}

func offloadOf(s *spec.Server, shape sim.Shape, maxTokens int) (sim.Offload, error) {
	o := sim.Offload{
		MaxTokens: maxTokens, Generated: s.Split.Counts == "generated", IncludeKV: s.Split.IncludeKV, ActivationBits: s.Split.ActivationBits,
		SecondsPerToken: s.Edge.SecondsPerToken, Channel: channelOf(s.Channel),
	}
	var err error
	if s.Edge.MemoryBandwidth > 0 {
		o.SecondsPerToken, err = sim.RooflineSecondsPerToken(shape, int64(s.Edge.WeightBits), s.Edge.MemoryBandwidth, s.Edge.MemoryEfficiency)
	}
	return o, err
}

var arrivalOf = map[string]sim.Arrival{spec.PanelBurst: sim.Burst, spec.PanelClosed: sim.Closed, spec.PanelPoisson: sim.Poisson, spec.PanelStatic: sim.Closed}

// checkServer says whether every model, and the longest request, fits the modelled server.
func checkServer(w *Workbench, s *spec.Spec) error {
	if s.Server == nil {
		return nil
	}
	models, err := serverModels(w, s)
	if err != nil {
		return err
	}
	var faults []error
	for _, m := range models {
		capacity, err := sim.ServerCapacity(m.Shape, serverOf(s.Server, spec.PanelClosed))
		if longest := s.Server.Workload.Prompt.Max + s.Server.Workload.Output.Max; err == nil && longest > capacity {
			err = fmt.Errorf("the longest request has %d tokens, expected at most the %d whose keys and values fit on the server", longest, capacity)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: server, model %s: %w", s.Name, m.Name, err))
		}
	}
	return errors.Join(faults...)
}

// serverVersion is counted up when the simulation gives other results for equal settings.
const serverVersion = 2

// simulateServer runs the modelled server of a spec for every model, or takes what the run has of the same
// settings. Equal specs give equal results, for any number of workers. A spec without a server has no results.
func simulateServer(ctx context.Context, w *Workbench, s *spec.Spec, r *results.Run) error {
	if s.Server == nil {
		return r.WriteServer(nil)
	}
	models, err := serverModels(w, s)
	if err != nil {
		return err
	}
	form, err := json.Marshal([]any{results.ServerSchema, serverVersion, s.Server, s.Seed, models})
	if err != nil {
		return err
	}
	key := fmt.Sprintf("%x", sha256.Sum256(form))
	if old, err := r.Server(); err == nil && old != nil && old.Key == key {
		return nil
	}
	out := &results.Server{Key: key, Times: []results.ServerTime{}, Tokens: []results.ServerTokens{}}
	if out.Notes, err = serverNotes(s.Server); err != nil {
		return err
	}
	limits := append([]int{0}, s.Server.MaxTokens...)
	shapes := map[string]sim.Shape{}
	for _, m := range models {
		shapes[m.Name] = m.Shape
		for _, panel := range s.Server.Panels {
			for _, limit := range limits {
				for _, n := range s.Server.Devices {
					out.Times = append(out.Times, results.ServerTime{Model: m.Name, Panel: panel, MaxTokens: limit, Devices: n, Seeds: s.Server.Seeds})
				}
			}
		}
	}
	errs := make([]error, len(out.Times))
	var next atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(errs); i = int(next.Add(1)) - 1 {
				errs[i] = simulatePoint(ctx, s, shapes[out.Times[i].Model], &out.Times[i])
			}
		})
	}
	workers.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("server, model %s: %w", out.Times[i].Model, err)
		}
	}
	work := workloadOf(s.Server.Workload, spec.PanelClosed)
	for _, limit := range s.Server.Limits {
		o, err := offloadOf(s.Server, models[0].Shape, limit)
		if err != nil {
			return err
		}
		tokens, err := work.ServerTokens(o)
		if err != nil {
			return err
		}
		out.Tokens = append(out.Tokens, results.ServerTokens{MaxTokens: limit, Tokens: tokens})
	}
	return r.WriteServer(out)
}

// simulatePoint fills in one point. It looks at ctx before every seed.
func simulatePoint(ctx context.Context, s *spec.Spec, shape sim.Shape, p *results.ServerTime) error {
	o, err := offloadOf(s.Server, shape, p.MaxTokens)
	if err != nil {
		return err
	}
	server, work := serverOf(s.Server, p.Panel), workloadOf(s.Server.Workload, p.Panel)
	n := float64(p.Seeds)
	var residence, busy, makespan []float64
	sequences, steps := 0, 0
	for seed := range p.Seeds {
		if err := ctx.Err(); err != nil {
			return err
		}
		jobs, err := work.Draw(p.Devices, uint64(s.Seed+seed))
		if err != nil {
			return err
		}
		l, err := sim.SimulateServer(shape, server, o, arrivalOf[p.Panel], jobs)
		if err != nil {
			return err
		}
		residence, busy, makespan = append(residence, l.Residence), append(busy, l.Busy), append(makespan, l.Makespan)
		p.Visits += float64(l.Visits) / n
		p.Tokens += float64(l.Tokens) / n
		p.Preemptions += float64(l.Preemptions) / n
		sequences, steps = sequences+l.Sequences, steps+l.Steps
	}
	p.Residence, p.Busy, p.Makespan = estimate(residence), estimate(busy), estimate(makespan)
	if steps > 0 {
		p.Batch = float64(sequences) / float64(steps)
	}
	return nil
}

// estimate returns the mean with its standard error.
func estimate(xs []float64) results.Estimate {
	var e results.Estimate
	n := float64(len(xs))
	for _, x := range xs {
		e.Mean += x / n
	}
	if n > 1 {
		for _, x := range xs {
			e.Stderr += (x - e.Mean) * (x - e.Mean)
		}
		e.Stderr = math.Sqrt(e.Stderr / (n - 1) / n)
	}
	return e
}

// serverNotes says what is modelled.
func serverNotes(s *spec.Server) ([]string, error) {
	c := channelOf(s.Channel)
	rate, attempts, err := c.BestRate()
	if err != nil {
		return nil, err
	}
	g := func(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }
	device := g(s.Edge.SecondsPerToken) + " s a token"
	if s.Edge.MemoryBandwidth > 0 {
		device = fmt.Sprintf("a token takes reading all layers at %d bits and a 16-bit head at %s GB/s x %s", s.Edge.WeightBits, g(s.Edge.MemoryBandwidth/1e9), g(s.Edge.MemoryEfficiency))
	}
	link := fmt.Sprintf("%s Mbit/s", g(rate/1e6))
	if s.Channel.Rate == 0 {
		link = fmt.Sprintf("%s MHz, SNR %s, outage %s: %s Mbit/s with %d attempts", g(s.Channel.BandwidthHz/1e6), g(s.Channel.SNR), g(s.Channel.Outage), g(rate/1e6), attempts)
	}
	sent := "hidden state"
	if s.Split.IncludeKV {
		sent = "keys and values"
	}
	counts := "W counts all tokens of a sequence"
	if s.Split.Counts == "generated" {
		counts = "W counts generated tokens"
	}
	lengths := func(l spec.ServerLengths) string {
		return fmt.Sprintf("%s (cv %s, %d to %d)", g(l.Mean), g(l.CV), l.Min, l.Max)
	}
	return []string{
		fmt.Sprintf("Server: %s, %s GB/s x %s, %s TFLOP/s x %s, %s GB x %s less %s GB; models in 16 bits.", s.Accelerator, g(s.MemoryBandwidth/1e9), g(s.MemoryEfficiency), g(s.FLOPS/1e12), g(s.FLOPEfficiency), g(s.MemoryBytes/1e9), g(s.Utilization), g(s.ReserveBytes/1e9)),
		fmt.Sprintf("A step takes %s ms and %s ms a sequence more; up to %d sequences (static: %d), %d prompt tokens a step.", g(s.StepSeconds*1e3), g(s.SequenceSeconds*1e3), s.MaxSequences, s.StaticMaxSequences, s.Chunk),
		fmt.Sprintf("Device: %s. Link: %s.", device, link),
		fmt.Sprintf("Handover: %s at %d bits; %s.", sent, s.Split.ActivationBits, counts),
		fmt.Sprintf("Requests: prompts of %s and outputs of %s tokens.", lengths(s.Workload.Prompt), lengths(s.Workload.Output)),
		fmt.Sprintf("%d requests a device (burst: 1), %s s apart; %d seeds, the same requests for all curves.", s.Workload.Jobs, g(s.Workload.ThinkSeconds), s.Seeds),
		"Residence: sum over requests of the time from arrival at the server to the end. Busy: time the server works.",
	}, nil
}

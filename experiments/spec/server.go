package spec

import (
	"fmt"
	"slices"

	"gopkg.in/yaml.v3"
)

// A Server describes the modelled server that all devices share, and what they ask of it (arXiv 2511.04002,
// Fig. 5). Nothing of it is part of a cell.
type Server struct {
	Accelerator        string  // for people
	MemoryBandwidth    float64 // bytes per second
	MemoryEfficiency   float64
	FLOPS              float64 // dense 16-bit operations per second
	FLOPEfficiency     float64
	MemoryBytes        float64
	Utilization        float64
	ReserveBytes       float64
	StepSeconds        float64
	SequenceSeconds    float64
	MaxSequences       int
	StaticMaxSequences int // of static batching
	Chunk              int // tokens

	Panels    []string // see PanelBurst
	Shapes    []string // published models beside those of the spec
	Devices   []int
	MaxTokens []int // W-bar of the curves against devices
	Limits    []int // W-bar of the curve of tokens
	Seeds     int

	Edge     ServerEdge
	Channel  ServerChannel
	Workload ServerWorkload
	Split    ServerSplit
}

// The panels of server_time_vs_devices.
const (
	PanelBurst   = "burst"   // one job of each device, all at once
	PanelClosed  = "closed"  // each device starts a job some time after its last ended
	PanelPoisson = "poisson" // each device starts jobs at random times
	PanelStatic  = "static"  // closed, and the server batches statically
)

// A ServerEdge is the speed of a device.
type ServerEdge struct {
	SecondsPerToken  float64 // where MemoryBandwidth is 0
	MemoryBandwidth  float64 // bytes per second
	MemoryEfficiency float64
	WeightBits       int
}

// A ServerChannel is the link of a device.
type ServerChannel struct {
	BandwidthHz, SNR, Gain, Outage float64
	Rate                           float64 // bits per second; 0: the best rate of the fading channel
}

// A ServerWorkload is what devices ask for.
type ServerWorkload struct {
	Jobs           int
	ThinkSeconds   float64
	Prompt, Output ServerLengths
}

// ServerLengths is a log-normal distribution of tokens, cut to a range.
type ServerLengths struct {
	Mean, CV float64
	Min, Max int
}

// A ServerSplit is the edge's part of a request.
type ServerSplit struct {
	Counts         string // what W-bar counts: "sequence" or "generated" tokens
	IncludeKV      bool
	ActivationBits int
}

func lengthKeys(mean float64, low, high int, ref func(c *Cell) *ServerLengths) []*key {
	return []*key{
		{name: "mean", shape: number, low: 1, high: 1e6, def: mean, unit: "tokens",
			ref: func(c *Cell) any { return &ref(c).Mean },
			doc: "Mean of the log-normal distribution before it is cut."},
		{name: "cv", shape: number, high: 100, def: 0.5,
			ref: func(c *Cell) any { return &ref(c).CV },
			doc: "Standard deviation over mean."},
		{name: "min", shape: integer, low: 1, high: 1 << 14, def: low, unit: "tokens",
			ref: func(c *Cell) any { return &ref(c).Min },
			doc: "Shortest length."},
		{name: "max", shape: integer, low: 1, high: 1 << 14, def: high, unit: "tokens",
			ref: func(c *Cell) any { return &ref(c).Max },
			doc: "Longest length."},
	}
}

// A share is above 0; a thousandth is low enough.
const leastShare = 1e-3

var serverKeys = []*key{
	{name: "accelerator", shape: text, def: "NVIDIA RTX A6000",
		ref: func(c *Cell) any { return &c.server.Accelerator },
		doc: "Name of the server's accelerator in notes."},
	{name: "memory_bandwidth", shape: number, low: 1, high: 1e18, def: 768e9, unit: "bytes per second",
		ref: func(c *Cell) any { return &c.server.MemoryBandwidth },
		doc: "Memory bandwidth of the accelerator."},
	{name: "memory_efficiency", shape: number, low: leastShare, high: 1, def: 0.8,
		ref: func(c *Cell) any { return &c.server.MemoryEfficiency },
		doc: "Share of the memory bandwidth that is reached."},
	{name: "flops", shape: number, low: 1, high: 1e21, def: 154.8e12, unit: "operations per second",
		ref: func(c *Cell) any { return &c.server.FLOPS },
		doc: "Dense 16-bit operations."},
	{name: "flop_efficiency", shape: number, low: leastShare, high: 1, def: 0.5,
		ref: func(c *Cell) any { return &c.server.FLOPEfficiency },
		doc: "Share of the operations that is reached."},
	{name: "memory_bytes", shape: number, low: 1, high: 1e18, def: 51.5e9, unit: "bytes",
		ref: func(c *Cell) any { return &c.server.MemoryBytes },
		doc: "Memory of the accelerator."},
	{name: "utilization", shape: number, low: leastShare, high: 1, def: 0.9,
		ref: func(c *Cell) any { return &c.server.Utilization },
		doc: "Share of the memory for weights, keys and values, and the reserve."},
	{name: "reserve_bytes", shape: number, high: 1e18, def: 1e9, unit: "bytes",
		ref: func(c *Cell) any { return &c.server.ReserveBytes },
		doc: "Memory of the workspace."},
	{name: "step_seconds", shape: number, high: 1e3, def: 2e-3, unit: "seconds",
		ref: func(c *Cell) any { return &c.server.StepSeconds },
		doc: "Fixed time of one step of a batch."},
	{name: "sequence_seconds", shape: number, high: 1e3, def: 5e-5, unit: "seconds",
		ref: func(c *Cell) any { return &c.server.SequenceSeconds },
		doc: "Time of a step for each sequence in the batch."},
	{name: "max_sequences", shape: integer, low: 1, high: 1 << 20, def: 256,
		ref: func(c *Cell) any { return &c.server.MaxSequences },
		doc: "Largest batch of continuous batching."},
	{name: "static_max_sequences", shape: integer, low: 1, high: 1 << 20, def: 16,
		ref: func(c *Cell) any { return &c.server.StaticMaxSequences },
		doc: "Largest batch of static batching."},
	{name: "chunk", shape: integer, low: 1, high: 1 << 24, def: 512, unit: "tokens",
		ref: func(c *Cell) any { return &c.server.Chunk },
		doc: "Most prompt tokens of one step."},
	{name: "panels", shape: choice, list: true, choices: []string{PanelBurst, PanelClosed, PanelPoisson, PanelStatic},
		def: []string{PanelBurst, PanelClosed, PanelStatic}, shown: "burst, closed, static",
		ref: func(c *Cell) any { return &c.server.Panels },
		doc: "Arrivals, one panel each: burst is one job of every device at once, closed starts a job some time after the last ended, poisson at random times whether it ended or not, static is closed with static batching instead of continuous."},
	{name: "shapes", shape: choice, list: true, empty: true, choices: []string{"Llama-2-7B", "Llama-2-13B", "Llama-3.1-8B", "Mistral-Nemo-2407", "Qwen2.5-14B", "Phi-4"},
		def: []string{}, shown: "none",
		ref: func(c *Cell) any { return &c.server.Shapes },
		doc: "Published models that are simulated beside those of the spec, by their dimensions alone."},
	{name: "devices", shape: integer, list: true, low: 1, high: 10000, def: []int{1, 4, 16, 32, 64, 100, 150, 200}, shown: "1, 4, 16, 32, 64, 100, 150, 200",
		ref: func(c *Cell) any { return &c.server.Devices },
		doc: "Numbers of devices."},
	{name: "max_tokens", shape: integer, list: true, low: 1, high: 1 << 20, def: []int{250, 350}, shown: "250, 350", symbol: "W-bar", unit: "tokens",
		ref: func(c *Cell) any { return &c.server.MaxTokens },
		doc: "Tokens on the edge, one curve each beside cloud-only."},
	{name: "limits", shape: integer, list: true, low: 0, high: 1 << 20, def: []int{0, 50, 100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 800, 1000}, shown: "0 to 500 by 50, 600, 800, 1000", symbol: "W-bar", unit: "tokens",
		ref: func(c *Cell) any { return &c.server.Limits },
		doc: "Tokens on the edge for the curve of server tokens (Fig. 5b)."},
	{name: "seeds", shape: integer, low: 1, high: 1000, def: 10,
		ref: func(c *Cell) any { return &c.server.Seeds },
		doc: "Runs of each point, with the experiment's seed and those after it; all curves see the same requests."},
	{name: "edge", shape: object, fields: []*key{
		{name: "seconds_per_token", shape: number, high: 1e6, def: 0.08, unit: "seconds",
			ref: func(c *Cell) any { return &c.server.Edge.SecondsPerToken },
			doc: "Time of a token on the edge, where memory_bandwidth is 0."},
		{name: "memory_bandwidth", shape: number, high: 1e18, def: 0.0, shown: "0 = seconds_per_token counts", unit: "bytes per second",
			ref: func(c *Cell) any { return &c.server.Edge.MemoryBandwidth },
			doc: "Memory bandwidth of a device; a token then takes the time of reading all layers and the 16-bit output head."},
		{name: "memory_efficiency", shape: number, low: leastShare, high: 1, def: 0.7,
			ref: func(c *Cell) any { return &c.server.Edge.MemoryEfficiency },
			doc: "Share of the device's memory bandwidth that is reached."},
		{name: "weight_bits", shape: integer, low: 1, high: 16, def: 4, unit: "bits",
			ref: func(c *Cell) any { return &c.server.Edge.WeightBits },
			doc: "Width of the weights on the device."},
	}, doc: "Speed of a device, on which the first tokens of a request run through all layers."},
	{name: "channel", shape: object, fields: []*key{
		{name: "bandwidth_hz", shape: number, low: 1, high: 1e15, def: 10e6, symbol: "W", unit: "hertz",
			ref: func(c *Cell) any { return &c.server.Channel.BandwidthHz },
			doc: "Bandwidth of the fading channel (Eq. 10)."},
		{name: "snr", shape: number, low: 1e-6, high: 1e12, def: 10.0, symbol: "gamma",
			ref: func(c *Cell) any { return &c.server.Channel.SNR },
			doc: "Signal-to-noise ratio, linear."},
		{name: "gain", shape: number, low: 1e-6, high: 1e12, def: 1.0,
			ref: func(c *Cell) any { return &c.server.Channel.Gain },
			doc: "Mean power gain of the fading."},
		{name: "outage", shape: number, low: 1e-12, high: 0.999, def: 1e-3, symbol: "epsilon",
			ref: func(c *Cell) any { return &c.server.Channel.Outage },
			doc: "Target outage probability of a message; it is sent at the rate that makes Eq. 9 smallest."},
		{name: "rate", shape: number, high: 1e15, def: 0.0, shown: "0 = the fading channel", unit: "bits per second",
			ref: func(c *Cell) any { return &c.server.Channel.Rate },
			doc: "Fixed rate in place of the fading channel."},
	}, doc: "Link of a device."},
	{name: "workload", shape: object, fields: []*key{
		{name: "jobs", shape: integer, low: 1, high: 10000, def: 10,
			ref: func(c *Cell) any { return &c.server.Workload.Jobs },
			doc: "Requests of each device; in the panel burst there is one."},
		{name: "think_seconds", shape: number, high: 1e6, def: 5.0, unit: "seconds",
			ref: func(c *Cell) any { return &c.server.Workload.ThinkSeconds },
			doc: "Mean of the exponential time before each request."},
		{name: "prompt", shape: object, fields: lengthKeys(128, 16, 512, func(c *Cell) *ServerLengths { return &c.server.Workload.Prompt }),
			doc: "Lengths of prompts."},
		{name: "output", shape: object, fields: lengthKeys(350, 16, 1024, func(c *Cell) *ServerLengths { return &c.server.Workload.Output }),
			doc: "Lengths of what is generated."},
	}, doc: "What devices ask for."},
	{name: "split", shape: object, fields: []*key{
		{name: "counts", shape: choice, choices: []string{"sequence", "generated"}, def: "sequence",
			ref: func(c *Cell) any { return &c.server.Split.Counts },
			doc: "What max_tokens counts: all tokens of the sequence, or the generated ones."},
		{name: "include_kv", shape: boolean, def: false, symbol: "I_kv",
			ref: func(c *Cell) any { return &c.server.Split.IncludeKV },
			doc: "Whether keys and values are sent; otherwise the server reads the tokens again."},
		{name: "activation_bits", shape: integer, low: 1, high: 16, def: 4, symbol: "Qa", unit: "bits",
			ref: func(c *Cell) any { return &c.server.Split.ActivationBits },
			doc: "Width of the values that are sent."},
	}, doc: "Handover of a request from the edge to the server."},
}

// serverOutputs are the outputs of the modelled server.
var serverOutputs = []string{"server_time_vs_devices", "server_tokens_vs_limit"}

// bindServer returns the modelled server, with its defaults where only an output asks for it, or nil.
func (r *reader) bindServer(root *node, c *Cell, outputs []string) *Server {
	n := root.get("server")
	if n == nil && !slices.ContainsFunc(outputs, func(o string) bool { return slices.Contains(serverOutputs, o) }) {
		return nil
	}
	s := c.server
	for _, l := range []struct {
		name string
		ServerLengths
	}{{"prompt", s.Workload.Prompt}, {"output", s.Workload.Output}} {
		if at := n.get("workload").get(l.name); at != nil && l.Min > l.Max {
			r.fault(at.pos, fmt.Sprintf("server.workload.%s.min is %d and max %d", l.name, l.Min, l.Max), "min up to max")
		}
	}
	if slices.ContainsFunc(s.Panels, func(p string) bool { return p != PanelBurst }) { // where a device has one request
		for i, d := range s.Devices {
			if d*s.Workload.Jobs <= maxRequests {
				continue
			}
			at := n.pos
			if jobs := n.get("workload").get("jobs"); jobs != nil {
				at = jobs.pos
			}
			if list := n.get("devices"); list != nil && i < len(list.items) {
				at = list.items[i].pos
			}
			r.fault(at, fmt.Sprintf("%d devices with %d requests each", d, s.Workload.Jobs), fmt.Sprintf("at most %d requests in all", maxRequests))
		}
	}
	return &s
}

// maxRequests bounds the requests of one simulation.
const maxRequests = 1_000_000

// serverNode writes the server.
func serverNode(s *Server) *yaml.Node {
	n := entry(serverKeys, &Cell{server: *s})
	n.Style = 0
	return n
}

// values returns the checked values of a list as the slice of their type; nil where one is wrong.
func (n *node) values(k *key) any {
	if n.kind != listNode {
		return nil
	}
	if k.shape == integer {
		return valuesOf[int](n)
	}
	return valuesOf[string](n)
}

func valuesOf[T any](n *node) any {
	out := make([]T, 0, len(n.items))
	for _, item := range n.items {
		v, ok := item.value.(T)
		if !ok {
			return nil
		}
		out = append(out, v)
	}
	return out
}

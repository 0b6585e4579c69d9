package sim

import (
	"container/heap"
	"fmt"
	"math"
)

// Schedule is how a server forms batches.
type Schedule uint8

const (
	// Continuous takes jobs in and lets them go between any two steps (iteration-level batching).
	Continuous Schedule = iota
	// Static runs a batch until its longest job ends; all leave together.
	Static
)

// A Server is the accelerator that all devices share, and how it batches.
type Server struct {
	MemoryBandwidth  float64 // bytes per second
	MemoryEfficiency float64 // share of it that is reached, in (0, 1]
	FLOPS            float64 // dense 16-bit operations per second
	FLOPEfficiency   float64 // share of it that is reached, in (0, 1]
	MemoryBytes      float64
	Utilization      float64 // share of the memory for weights, cache and reserve, in (0, 1]
	ReserveBytes     float64 // workspace
	StepSeconds      float64 // t0, fixed cost of a step
	SequenceSeconds  float64 // cs, cost of a step for each sequence in it
	MaxSequences     int     // largest batch
	Chunk            int     // prompt tokens of one step, at most
	Schedule         Schedule
}

// A6000 is an NVIDIA RTX A6000 with 48 GB, continuous batching of up to 256 sequences and chunks of 512 tokens.
func A6000() Server {
	return Server{
		MemoryBandwidth: 768e9, MemoryEfficiency: .8, FLOPS: 154.8e12, FLOPEfficiency: .5,
		MemoryBytes: 51.5e9, Utilization: .9, ReserveBytes: 1e9,
		StepSeconds: 2e-3, SequenceSeconds: 5e-5, MaxSequences: 256, Chunk: 512,
	}
}

// An Offload is what a device does before the server takes over (the reading "handover": the edge runs all
// layers for the first tokens of a sequence). The zero value is cloud-only.
type Offload struct {
	MaxTokens       int  // W-bar: tokens on the edge; 0: none
	Generated       bool // MaxTokens counts generated tokens only, not those of the prompt
	IncludeKV       bool // I_kv: the cache is sent; otherwise the hidden state, and the server prefills from the token ids
	ActivationBits  int  // width of what is sent
	SecondsPerToken float64
	Channel         Channel
}

// A Job is one request of a device, with the time it waits before it.
type Job struct {
	ThinkSeconds   float64
	Prompt, Output int // tokens
}

// Arrival is what makes the jobs of a device start.
type Arrival uint8

const (
	// Closed starts a job its think time after the last one ended.
	Closed Arrival = iota
	// Burst starts the first job of every device at 0 and each other when the last one ended.
	Burst
	// Poisson starts jobs their think times after each other, ended or not. The edge's parts of the jobs of a
	// device wait for each other; their messages do not.
	Poisson
)

// ServerLoad is what a simulation counts. Times are in seconds.
type ServerLoad struct {
	Residence   float64 // sum over jobs of the time from arrival at the server to the end
	Busy        float64 // sum of the steps
	Makespan    float64 // end of the last job, on a device or the server
	Jobs        int     // all jobs
	Visits      int     // jobs that the server saw
	Tokens      int     // tokens that the server generated
	Steps       int
	Sequences   int // sum over steps of the sequences in them
	Preemptions int
}

// serving are the constants of a model on a server.
type serving struct {
	Server
	weightBytes float64 // read in a step
	linear      float64 // parameters that a token is multiplied with
	kvBytes     float64 // of one token
	capacity    int     // tokens
}

// serve computes the constants of a model in 16 bits.
func (s Server) serve(shape Shape) (serving, error) {
	for _, f := range []struct {
		name             string
		value, low, high float64
	}{
		{"memory bandwidth", s.MemoryBandwidth, 1, math.MaxFloat64}, {"memory efficiency", s.MemoryEfficiency, 1e-9, 1},
		{"operations per second", s.FLOPS, 1, math.MaxFloat64}, {"efficiency of operations", s.FLOPEfficiency, 1e-9, 1},
		{"memory", s.MemoryBytes, 1, math.MaxInt32 * 1e9}, {"utilization", s.Utilization, 1e-9, 1}, {"reserve", s.ReserveBytes, 0, math.MaxInt32 * 1e9},
		{"cost of a step", s.StepSeconds, 0, 1e6}, {"cost of a sequence", s.SequenceSeconds, 0, 1e6},
		{"largest batch", float64(s.MaxSequences), 1, math.MaxInt32}, {"chunk", float64(s.Chunk), 1, math.MaxInt32},
	} {
		if !(f.value >= f.low && f.value <= f.high) {
			return serving{}, fmt.Errorf("sim: %s of the server is %v, expected %v to %v", f.name, f.value, f.low, f.high)
		}
	}
	kv, err := shape.KVBits(16)
	if err != nil {
		return serving{}, err
	}
	// A token reads its own row of the embedding only, unless that is the output head too.
	linear := shape.TotalParameters - (shape.EmbeddingRows-shape.Vocab)*shape.Hidden
	if linear < 1 || kv < 8 {
		return serving{}, fmt.Errorf("sim: the shape has %d parameters beside the embedding and %d bits of cache per token, expected a model", linear, kv)
	}
	v := serving{Server: s, weightBytes: 2 * float64(linear), linear: float64(linear), kvBytes: float64(kv) / 8}
	free := math.Floor((s.Utilization*s.MemoryBytes - 2*float64(shape.TotalParameters) - s.ReserveBytes) / v.kvBytes)
	if free < 1 {
		return serving{}, fmt.Errorf("sim: the model's %d parameters in 16 bits leave no memory for a token on a server of %.4g bytes", shape.TotalParameters, s.MemoryBytes)
	}
	v.capacity = int(math.Min(free, math.MaxInt32))
	return v, nil
}

// ServerCapacity returns the number of tokens whose keys and values fit beside the weights of a model in 16
// bits.
func ServerCapacity(shape Shape, s Server) (int, error) {
	v, err := s.serve(shape)
	return v.capacity, err
}

// step returns the time of one step in seconds: the fixed costs, and the longer of reading the weights and
// the cache of context tokens and of computing for tokens.
func (v *serving) step(sequences, context, tokens int) float64 {
	memory := (v.weightBytes + v.kvBytes*float64(context)) / (v.MemoryBandwidth * v.MemoryEfficiency)
	compute := 2 * v.linear * float64(tokens) / (v.FLOPS * v.FLOPEfficiency)
	return v.StepSeconds + v.SequenceSeconds*float64(sequences) + math.Max(memory, compute)
}

// A visit is what a job asks of the server.
type visit struct {
	prefill  int // tokens that the server must read before it generates
	context  int // tokens whose cache it has
	generate int // tokens to be generated
}

// visitOf returns what is left of a job for the server after the edge's part, the time of that part and the
// bits sent. seen is false for a job that ends on the edge.
func (o Offload) visitOf(shape Shape, j Job) (v visit, edgeTokens int, payloadBits float64, seen bool) {
	limit, all := o.MaxTokens, j.Prompt+j.Output
	if limit > 0 && o.Generated {
		limit += j.Prompt
	}
	switch {
	case limit == 0:
		return visit{prefill: j.Prompt, generate: j.Output}, 0, 0, true
	case all <= limit:
		return visit{}, all, 0, false
	}
	v.generate = j.Output
	if limit >= j.Prompt {
		v.generate = all - limit
	}
	if o.IncludeKV {
		v.context, v.prefill = limit, max(0, j.Prompt-limit)
		payloadBits = 2 * float64(shape.Layers) * float64(limit) * float64(shape.KVWidth) * float64(o.ActivationBits)
	} else {
		v.prefill = max(limit, j.Prompt)
		payloadBits = float64(limit) * float64(shape.Hidden) * float64(o.ActivationBits)
	}
	return v, limit, payloadBits, true
}

// check also returns the seconds of a bit.
func (o Offload) check() (secondsPerBit float64, err error) {
	switch {
	case o.MaxTokens < 0 || o.MaxTokens > math.MaxInt32:
		return 0, fmt.Errorf("sim: the edge's tokens are %d, expected 0 or more", o.MaxTokens)
	case o.MaxTokens == 0:
		return 0, nil
	case o.ActivationBits < 1 || o.ActivationBits > 16:
		return 0, fmt.Errorf("sim: activation width is %d bits, expected 1 to 16", o.ActivationBits)
	case !(o.SecondsPerToken >= 0) || math.IsInf(o.SecondsPerToken, 0):
		return 0, fmt.Errorf("sim: a token on the edge takes %v s, expected 0 or more", o.SecondsPerToken)
	}
	return o.Channel.SecondsPerBit()
}

// request is a job on the server.
type request struct {
	visit
	device  int
	arrival float64
}

// arrivals is a heap by time, then device.
type arrivals []request

func (a arrivals) Len() int { return len(a) }
func (a arrivals) Less(i, j int) bool {
	if a[i].arrival != a[j].arrival {
		return a[i].arrival < a[j].arrival
	}
	return a[i].device < a[j].device
}
func (a arrivals) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *arrivals) Push(x any)   { *a = append(*a, x.(request)) }
func (a *arrivals) Pop() any {
	last := len(*a) - 1
	r := (*a)[last]
	*a = (*a)[:last]
	return r
}

// simulation is a run: devices that work through their jobs, and a server.
type simulation struct {
	serving
	shape         Shape
	offload       Offload
	secondsPerBit float64
	arrival       Arrival
	devices       [][]Job
	next          []int // job of each device
	coming        arrivals
	queue         []request // waiting, in order
	running       []request // in the order of admission
	now           float64
	load          ServerLoad
}

// SimulateServer runs the jobs of some devices against one server that holds a model in 16 bits. Equal
// arguments give equal results.
func SimulateServer(shape Shape, s Server, o Offload, a Arrival, devices [][]Job) (ServerLoad, error) {
	v, err := s.serve(shape)
	if err != nil {
		return ServerLoad{}, err
	}
	m := simulation{serving: v, shape: shape, offload: o, arrival: a, devices: devices, next: make([]int, len(devices))}
	if m.secondsPerBit, err = o.check(); err != nil {
		return ServerLoad{}, err
	}
	for d, jobs := range devices {
		for i, j := range jobs {
			if j.Prompt < 1 || j.Output < 1 || j.Prompt > math.MaxInt32 || j.Output > math.MaxInt32 || !(j.ThinkSeconds >= 0) || math.IsInf(j.ThinkSeconds, 0) {
				return ServerLoad{}, fmt.Errorf("sim: job %d of device %d is %+v, expected at least one token of prompt and output and no negative time", i, d, j)
			}
			if _, _, _, seen := o.visitOf(shape, j); seen && j.Prompt+j.Output > m.capacity {
				return ServerLoad{}, fmt.Errorf("sim: job %d of device %d has %d tokens of prompt and %d of output, expected at most the %d whose keys and values fit on the server", i, d, j.Prompt, j.Output, m.capacity)
			}
		}
	}
	for d := range devices {
		m.proceed(d, 0)
	}
	step := m.continuousStep
	if s.Schedule == Static {
		step = m.staticBatch
	}
	for {
		for len(m.coming) > 0 && m.coming[0].arrival <= m.now {
			m.queue = append(m.queue, heap.Pop(&m.coming).(request))
		}
		if len(m.running)+len(m.queue) == 0 {
			if len(m.coming) == 0 {
				return m.load, nil
			}
			m.now = m.coming[0].arrival
			continue
		}
		step()
	}
}

// proceed lets a device go on at a time with its next job and those after it until one reaches the server.
func (m *simulation) proceed(device int, now float64) {
	free := now // end of the edge's last part
	for jobs := m.devices[device]; m.next[device] < len(jobs); {
		j := jobs[m.next[device]]
		m.next[device]++
		m.load.Jobs++
		start := now
		if m.arrival != Burst {
			start += j.ThinkSeconds
		}
		v, edge, bits, seen := m.offload.visitOf(m.shape, j)
		end := math.Max(start, free) + float64(edge)*m.offload.SecondsPerToken
		free = end
		if seen {
			heap.Push(&m.coming, request{v, device, end + bits*m.secondsPerBit})
			m.load.Visits++
			m.load.Tokens += v.generate
		} else {
			m.load.Makespan = math.Max(m.load.Makespan, end)
		}
		switch {
		case m.arrival == Poisson:
			now = start
		case seen:
			return
		default:
			now = end
		}
	}
}

// leave ends a request.
func (m *simulation) leave(r request) {
	m.load.Residence += m.now - r.arrival
	m.load.Makespan = math.Max(m.load.Makespan, m.now)
	if m.arrival != Poisson { // whose jobs have all been sent
		m.proceed(r.device, m.now)
	}
}

// spend lets the time of a step pass.
func (m *simulation) spend(sequences, context, tokens int) {
	dt := m.step(sequences, context, tokens)
	m.now += dt
	m.load.Busy += dt
	m.load.Steps++
	m.load.Sequences += sequences
}

// continuousStep preempts, admits and runs one step: a token of every sequence that decodes, and prompt
// tokens up to a chunk.
func (m *simulation) continuousStep() {
	used := 0
	for _, r := range m.running {
		used += r.context + 1
	}
	for used > m.capacity && len(m.running) > 1 {
		last := len(m.running) - 1
		r := m.running[last]
		used -= r.context + 1
		r.prefill, r.context = r.prefill+r.context, 0 // recomputed from the token ids
		m.running = m.running[:last]
		m.queue = append([]request{r}, m.queue...)
		m.load.Preemptions++
	}
	for len(m.queue) > 0 && len(m.running) < m.MaxSequences {
		r := m.queue[0]
		need := r.context + r.prefill + 1
		if used+need > m.capacity && len(m.running) > 0 {
			break
		}
		used += need
		m.queue, m.running = m.queue[1:], append(m.running, r)
	}
	context, decodes, read := 0, 0, 0
	for i := range m.running {
		r := &m.running[i]
		context += r.context
		if r.prefill == 0 {
			decodes++
			r.generate, r.context = r.generate-1, r.context+1
			continue
		}
		n := min(r.prefill, m.Chunk-read)
		read += n
		r.prefill, r.context = r.prefill-n, r.context+n
		if r.prefill == 0 && n > 0 { // the last chunk gives the first token
			r.generate, r.context = r.generate-1, r.context+1
		}
	}
	m.spend(len(m.running), context, decodes+read)
	kept := m.running[:0]
	var gone []request
	for _, r := range m.running {
		if r.generate == 0 {
			gone = append(gone, r)
			continue
		}
		kept = append(kept, r)
	}
	m.running = kept
	for _, r := range gone {
		m.leave(r)
	}
}

// staticBatch takes waiting jobs whose final lengths, padded to the longest, fit into the cache, prefills
// them together, padded too, and runs until the longest ends.
func (m *simulation) staticBatch() {
	n, longest := 0, 0
	for n < len(m.queue) && n < m.MaxSequences {
		r := m.queue[n]
		length := max(longest, r.context+r.prefill+r.generate)
		if n > 0 && (n+1)*length > m.capacity {
			break
		}
		longest = length
		n++
	}
	batch := m.queue[:n]
	m.queue = m.queue[n:]
	context, prefill, padded, steps := 0, 0, 0, 0
	for _, r := range batch {
		context += r.context
		prefill = max(prefill, r.prefill)
		padded = max(padded, r.context+r.prefill)
		steps = max(steps, r.generate)
	}
	if prefill > 0 {
		m.spend(n, context, n*prefill)
		padded++
		steps--
	}
	for ; steps > 0; steps-- {
		m.spend(n, n*padded, n)
		padded++
	}
	for _, r := range batch {
		m.leave(r)
	}
}

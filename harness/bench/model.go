package bench

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"splitbench/compress"
	"splitbench/models/backend"
	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
)

// Shape is the size of a decoder of the Llama family.
type Shape struct {
	Name                           string
	Hidden, Layers, Heads, KVHeads int
	Intermediate, Vocab            int
	Tied                           bool // the head is the embedding
}

// Presets are the shapes of models that other programs are measured with.
var Presets = []Shape{
	{"15M", 288, 6, 6, 6, 768, 32000, true},       // stories15M
	{"110M", 768, 12, 12, 12, 2048, 32000, true},  // stories110M
	{"1.1B", 2048, 22, 32, 4, 5632, 32000, false}, // TinyLlama
}

// benchPositions is the longest sequence of the models made here.
const benchPositions = 4096

// Check reports what is wrong with a shape.
func (s Shape) Check() error {
	for _, v := range []struct {
		name  string
		value int
		most  int
	}{{"hidden", s.Hidden, 1 << 16}, {"layers", s.Layers, 1 << 10}, {"heads", s.Heads, 1 << 10}, {"kv-heads", s.KVHeads, 1 << 10}, {"intermediate", s.Intermediate, 1 << 18}, {"vocab", s.Vocab, 1 << 20}} {
		if v.value < 1 || v.value > v.most {
			return fmt.Errorf("%s %d, expected 1 to %d", v.name, v.value, v.most)
		}
	}
	switch {
	case s.Hidden%s.Heads != 0 || s.Hidden/s.Heads%2 != 0:
		return fmt.Errorf("hidden %d with %d heads, expected heads of an even width", s.Hidden, s.Heads)
	case s.Heads%s.KVHeads != 0:
		return fmt.Errorf("heads %d with %d kv-heads, expected a multiple", s.Heads, s.KVHeads)
	case s.Vocab < 4:
		return fmt.Errorf("vocab %d, expected at least 4", s.Vocab)
	}
	return nil
}

func (s Shape) config() checkpoint.Config {
	return checkpoint.Config{
		Architecture: "LlamaForCausalLM", HiddenSize: s.Hidden, IntermediateSize: s.Intermediate, Layers: s.Layers,
		Heads: s.Heads, KVHeads: s.KVHeads, HeadDim: s.Hidden / s.Heads, VocabSize: s.Vocab, MaxPositions: benchPositions,
		NormEpsilon: 1e-5, TiedEmbeddings: s.Tied, Rope: checkpoint.RopeConfig{Theta: 10000, Type: "default"},
		BOS: []int32{1}, EOS: []int32{2},
	}
}

// linearMap is a kind of product of the model, with the names that share it.
type linearMap struct {
	name    string
	out, in int
}

// maps lists the different products of a model.
func (s Shape) maps() []linearMap {
	kv := s.KVHeads * (s.Hidden / s.Heads)
	list := []linearMap{{"q o", s.Hidden, s.Hidden}, {"k v", kv, s.Hidden}, {"gate up", s.Intermediate, s.Hidden}, {"down", s.Hidden, s.Intermediate}, {"head", s.Vocab, s.Hidden}}
	if kv == s.Hidden {
		list = slices.Delete(list, 1, 2)
		list[0].name = "q k v o"
	}
	return list
}

// layerWeights is the number of weights of the linear maps of one block.
func (s Shape) layerWeights() int64 {
	kv := int64(s.KVHeads * (s.Hidden / s.Heads))
	return int64(s.Hidden)*(2*int64(s.Hidden)+2*kv) + 3*int64(s.Hidden)*int64(s.Intermediate)
}

// Parameters is the number of weights of the model, norms left out.
func (s Shape) Parameters() int64 {
	tables := int64(2)
	if s.Tied {
		tables = 1
	}
	return int64(s.Layers)*s.layerWeights() + tables*int64(s.Vocab)*int64(s.Hidden)
}

// passFlops is the number of floating-point operations (products and sums) of
// one forward pass over sequences of the given lengths that start at position
// from, with the head on scored rows.
func (s Shape) passFlops(lengths []int, from, scored int) float64 {
	rows, pairs := 0.0, 0.0 // pairs: keys seen, over all rows
	for _, n := range lengths {
		rows += float64(n)
		pairs += float64(n)*float64(from) + float64(n)*float64(n+1)/2
	}
	linear := 2 * rows * float64(s.layerWeights())
	attention := 4 * pairs * float64(s.Hidden) // q·k and weights·v of all heads
	return float64(s.Layers)*(linear+attention) + 2*float64(scored)*float64(s.Vocab)*float64(s.Hidden)
}

// weightType is a form in which weights lie in memory.
type weightType struct {
	name string
	bits int // of one weight, for the estimate of memory
	// put makes the weight of a random linear map; other, where set, is the
	// form of embedding and head.
	put   func(b backend.Backend, r random, group int) (backend.Weight, error)
	other func(b backend.Backend, r random, group int) (backend.Weight, error)
}

// weightTypes is the table of what --types knows.
var weightTypes = []weightType{
	{"fp32", 32, putFloat32, nil},
	{"bf16", 16, putBFloat16, nil},
	{"int8", 8, quantised(8), putFloat32},
	{"int4", 4, quantised(4), putFloat32},
}

// WeightTypes lists the names of the types that weights can have.
func WeightTypes() (names []string) {
	for _, t := range weightTypes {
		names = append(names, t.name)
	}
	return names
}

func putFloat32(b backend.Backend, r random, _ int) (backend.Weight, error) {
	return b.NewWeight(backend.Dense{Out: r.out, In: r.in, Fill: r.fill})
}

// putBFloat16 rounds the values to bfloat16.
func putBFloat16(b backend.Backend, r random, _ int) (backend.Weight, error) {
	fill16 := func(dst []uint16, from, to int) error {
		row := make([]float32, r.in)
		for i := from; i < to; i++ {
			if err := r.fill(row, i, i+1); err != nil {
				return err
			}
			for j, v := range row {
				bits := math.Float32bits(v)
				dst[(i-from)*r.in+j] = uint16((bits + 0x7fff + bits>>16&1) >> 16) // to nearest, ties to even
			}
		}
		return nil
	}
	fill := func(dst []float32, from, to int) error {
		halves := make([]uint16, (to-from)*r.in)
		if err := fill16(halves, from, to); err != nil {
			return err
		}
		for i, h := range halves {
			dst[i] = math.Float32frombits(uint32(h) << 16)
		}
		return nil
	}
	return b.NewWeight(backend.Dense{Out: r.out, In: r.in, Fill: fill, Element: backend.BFloat16, Fill16: fill16})
}

func quantised(bits int) func(b backend.Backend, r random, group int) (backend.Weight, error) {
	return func(b backend.Backend, r random, group int) (backend.Weight, error) {
		p, err := r.pack(bits, group)
		if err != nil {
			return nil, err
		}
		return b.NewPackedWeight(p)
	}
}

// random is the source of a linear map of random weights: uniform, of standard
// deviation 1/sqrt(in). The seed decides every value.
type random struct {
	out, in int
	seed    uint64
}

// fill writes rows [from, to); rows do not depend on each other.
func (r random) fill(dst []float32, from, to int) error {
	scale := float32(math.Sqrt(3/float64(r.in))) / (1 << 31)
	for i := from; i < to; i++ {
		row := dst[(i-from)*r.in : (i-from+1)*r.in]
		// A stream per row, from its own place: rows are no shifted copies.
		state := splitMix(splitMix(r.seed) + uint64(i))
		for j := range row {
			state += golden
			row[j] = float32(float32(int32(splitMix(state)>>32)) * scale)
		}
	}
	return nil
}

// golden is the increment of SplitMix64: 2^64 over the golden ratio.
const golden = 0x9e3779b97f4a7c15

// splitMix is the output function of SplitMix64 (Steele, Lea, Flood 2014).
func splitMix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// pack quantises the map.
func (r random) pack(bits, group int) (backend.Packed, error) {
	values := make([]float32, r.out*r.in)
	if err := r.fill(values, 0, r.out); err != nil {
		return backend.Packed{}, err
	}
	q, err := compress.QuantiseWeights(values, r.out, r.in, compress.WeightScheme{Bits: bits, Group: group})
	if err != nil {
		return backend.Packed{}, err
	}
	return backend.Packed{Out: r.out, In: r.in, Bits: q.Bits, Group: q.Group, Codes: q.Codes, Scales: q.Scales, Zeros: q.Zeros}, nil
}

// testModel is a model of random weights.
type testModel struct {
	shape   Shape
	backend backend.Backend
	model   *decoder.Model
	layers  int64 // bytes of the blocks' linear maps
	head    int64 // bytes of the head
	total   int64 // bytes of all weights
}

// buildModel makes a model on b.
func buildModel(b backend.Backend, s Shape, t weightType, group int) (*testModel, error) {
	c := s.config()
	m := &testModel{shape: s, backend: b}
	seed := uint64(0)
	next := func(out, in int) random {
		seed++
		return random{out, in, seed}
	}
	outer := t.put
	if t.other != nil {
		outer = t.other
	}
	var p decoder.Parts
	var err error
	if p.Embedding, err = outer(b, next(s.Vocab, s.Hidden), group); err != nil {
		return nil, err
	}
	m.total, m.head = p.Embedding.Bytes(), p.Embedding.Bytes()
	for range s.Layers {
		l, err := decoder.BuildLayer(c, b, func(_ string, out, in int) (backend.Weight, error) { return t.put(b, next(out, in), group) })
		if err != nil {
			return nil, err
		}
		m.layers += l.Bytes()
		p.Layers = append(p.Layers, l)
		p.FinalNorm = l.AttentionNorm // all ones
	}
	if !s.Tied {
		if p.Head, err = outer(b, next(s.Vocab, s.Hidden), group); err != nil {
			return nil, err
		}
		m.head = p.Head.Bytes()
		m.total += m.head
	}
	m.total += m.layers
	m.model, err = decoder.Assemble(c, b, p)
	return m, err
}

// needs estimates the memory of a model with its caches and workspace, in
// bytes, for passes of the given number of rows.
func (s Shape) needs(t weightType, group, rows int) int64 {
	layers := int64(s.Layers) * s.layerWeights()
	n := layers * int64(t.bits) / 8
	outer := s.Parameters() - layers
	if t.other == nil {
		n += outer * int64(t.bits) / 8
	} else {
		n += 4 * outer
		if group == 0 {
			group = s.Hidden
		}
		n += 5 * layers / int64(group)                                                       // float32 scale and 8-bit zero
		n += 5 * int64(max(s.Intermediate, s.Hidden)) * int64(max(s.Hidden, s.Intermediate)) // one map while it is quantised
	}
	kv := int64(s.KVHeads * (s.Hidden / s.Heads))
	n += 8 * int64(rows) * kv * int64(s.Layers)
	n += 4*int64(rows)*(6*int64(s.Hidden)+2*kv+2*int64(s.Intermediate)) + 16<<20 + 8*int64(s.Vocab)
	return n
}

// freeMemory gives back what is not in use, so that one model's memory does not
// count as the next one's.
func freeMemory() {
	runtime.GC() // runs finalizers
	runtime.GC() // frees what they held
	debug.FreeOSMemory()
}

// RestartPeakMemory gives back what is not in use, makes PeakMemory count from
// now on, where Linux allows it, and returns the memory that is resident now in
// bytes, 0 where the system does not say.
func RestartPeakMemory() int64 {
	freeMemory()
	resetPeakMemory()
	return statusBytes("VmRSS:")
}

func resetPeakMemory() {
	if f, err := os.OpenFile("/proc/self/clear_refs", os.O_WRONLY, 0); err == nil {
		f.WriteString("5")
		f.Close()
	}
}

// PeakMemory is the largest resident memory of the process since
// RestartPeakMemory in bytes; 0 where the system does not say.
func PeakMemory() int64 { return statusBytes("VmHWM:") }

// statusBytes reads a line of the process's status.
func statusBytes(line string) int64 {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for text := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(text, line); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err == nil {
				return kib << 10
			}
		}
	}
	return 0
}

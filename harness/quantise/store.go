package quantise

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"splitbench/models/backend"
	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/quantize"
)

// A quantized checkpoint is a folder with config.json, the tokenizer's files,
// endsFile and one file per block. The metadata of endsFile has the keys of
// Header. The tensors of a block are input_layernorm and
// post_attention_layernorm, order.qkv, order.o, order.mlp and order.down (I32),
// and per linear map, as in self_attn.q_proj.codes:
//
//	codes           U8  (out, bytes of a row): integers less the least of the
//	                    quantizer's range, bit by bit, least significant first
//	scales, zeros   F32, I16 or F32: in the order of Quantizer.Fit
//	group_of        I32 (columns): the group of each, where the order of
//	                    activations has mixed them
//	outlier.codes, outlier.scales, outlier.zeros: of the outliers, the last columns
//	outlier.values  F32 (out, outliers): where they stay as they are
//	weight          F32 (out, in): of a weight that is not quantized
//	bias            F32
const (
	endsFile     = "quantized.safetensors"
	storedFormat = "splitbench quantized 1"
)

func blockFile(k int) string { return fmt.Sprintf("quantized-layer-%05d.safetensors", k+1) }

// Header is what a quantized checkpoint says of itself, in the metadata of its
// first file: what to do with activations, keys and values is part of Method.
type Header struct {
	Method      quantize.Method `json:"method"`
	Model       string          `json:"model"`       // digest of the checkpoint that was quantized
	Calibration string          `json:"calibration"` // CalibrationDigest, "" without calibration
	Sequences   int             `json:"sequences"`
	Tokens      int             `json:"tokens"`
}

// NewHeader describes a calibration set.
func NewHeader(model string, m quantize.Method, calibration [][]int32) Header {
	h := Header{Method: m, Model: model, Sequences: len(calibration)}
	for _, ids := range calibration {
		h.Tokens += len(ids)
	}
	if len(calibration) > 0 {
		h.Calibration = CalibrationDigest(calibration)
	}
	return h
}

// CalibrationDigest is the SHA-256, in hexadecimal, of the sequences: the
// length and the ids of each as little-endian 32-bit integers.
func CalibrationDigest(calibration [][]int32) string {
	d := sha256.New()
	for _, ids := range calibration {
		b := binary.LittleEndian.AppendUint32(nil, uint32(len(ids)))
		for _, id := range ids {
			b = binary.LittleEndian.AppendUint32(b, uint32(id))
		}
		d.Write(b)
	}
	return hex.EncodeToString(d.Sum(nil))
}

// Writer is the Sink that writes a quantized checkpoint to a folder, block by
// block. In a folder that holds the beginning of the same checkpoint, as its
// header says, Quantize goes on after the blocks that are there: the result has
// the bytes of an undisturbed run. Finish ends the writing.
type Writer struct {
	dir     string
	source  string // folder of the original's config.json
	header  Header
	resumed bool // the folder's blocks are of this checkpoint
}

// NewWriter returns the sink for a folder that exists; the config.json is made
// from that of the folder source.
func NewWriter(dir, source string, h Header) *Writer {
	return &Writer{dir: dir, source: source, header: h}
}

// writeFile writes a safetensors file that appears only when it is whole.
func writeFile(path string, tensors []checkpoint.NamedTensor, metadata map[string]string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".splitbench-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = errors.Join(checkpoint.WriteSafetensors(f, tensors, metadata), f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}

// narrow returns the values of a matrix with the least of the types BF16, F16
// and F32 that holds them all.
func narrow(name string, rows, cols int, v []float32) checkpoint.NamedTensor {
	t := checkpoint.NamedTensor{Name: name, Shape: []int{rows, cols}, Data: v, DType: checkpoint.BF16}
	for _, x := range v {
		if t.DType == checkpoint.BF16 && checkpoint.BFloat16ToFloat32(checkpoint.Float32ToBFloat16(x)) != x {
			t.DType = checkpoint.F16
		}
	}
	if t.DType == checkpoint.F16 {
		for _, x := range v {
			if checkpoint.Float16ToFloat32(checkpoint.Float32ToFloat16(x)) != x {
				t.DType = checkpoint.F32
				break
			}
		}
	}
	return t
}

// endTensors are the ends by the names of an ordinary checkpoint.
func endTensors(c checkpoint.Config, e *Ends) []checkpoint.NamedTensor {
	t := []checkpoint.NamedTensor{
		narrow("model.embed_tokens.weight", c.VocabSize, c.HiddenSize, e.Embedding),
		{Name: "model.norm.weight", Shape: []int{c.HiddenSize}, Data: e.FinalNorm},
	}
	if e.Head != nil {
		t = append(t, narrow("lm_head.weight", c.VocabSize, c.HiddenSize, e.Head))
	}
	return t
}

// Ends writes config.json and the first file.
func (w *Writer) Ends(c checkpoint.Config, e *Ends) error {
	if err := writeConfig(w.source, w.dir, map[string]any{"tie_word_embeddings": e.Head == nil}); err != nil {
		return err
	}
	if w.resumed = w.continues(); w.resumed {
		return nil
	}
	if err := w.clear(); err != nil {
		return err
	}
	text, err := json.Marshal(w.header)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(w.dir, endsFile), endTensors(c, e), map[string]string{"format": storedFormat, "header": string(text)})
}

// writeConfig copies a config.json with some keys replaced.
func writeConfig(source, dir string, keys map[string]any) error {
	path := filepath.Join(source, "config.json")
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var all map[string]any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&all); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for k, v := range keys {
		all[k] = v
	}
	if b, err = json.MarshalIndent(all, "", "  "); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), append(b, '\n'), 0o644)
}

// Block writes one block.
func (w *Writer) Block(k int, b *Block) error {
	var all []checkpoint.NamedTensor
	for i, v := range b.Norms {
		all = append(all, checkpoint.NamedTensor{Name: normNames[i], Shape: []int{len(v)}, Data: v})
	}
	for i, o := range b.Order {
		if o != nil {
			all = append(all, checkpoint.NamedTensor{Name: "order." + inputNames[i], Shape: []int{len(o)}, Data: o})
		}
	}
	for i := range b.Linears {
		l := &b.Linears[i]
		name := linearNames[i] + "."
		if l.Bias != nil {
			all = append(all, checkpoint.NamedTensor{Name: name + "bias", Shape: []int{l.Out}, Data: l.Bias})
		}
		if l.Body == nil {
			all = append(all, checkpoint.NamedTensor{Name: name + "weight", Shape: []int{l.Out, l.In}, Data: l.Values})
			continue
		}
		all = appendTensor(all, name, l.Body)
		rest := l.In - l.Body.Cols
		switch {
		case l.Outlier != nil:
			all = appendTensor(all, name+"outlier.", l.Outlier)
		case rest > 0:
			kept := make([]float32, 0, l.Out*rest)
			for r := range l.Out {
				kept = append(kept, l.Values[r*l.In+l.Body.Cols:(r+1)*l.In]...)
			}
			all = append(all, checkpoint.NamedTensor{Name: name + "outlier.values", Shape: []int{l.Out, rest}, Data: kept})
		}
	}
	return writeFile(filepath.Join(w.dir, blockFile(k)), all, map[string]string{"format": storedFormat})
}

func appendTensor(all []checkpoint.NamedTensor, name string, t *quantize.Tensor) []checkpoint.NamedTensor {
	bits := t.Quantizer.Bits
	rowBytes := (t.Cols*bits + 7) / 8
	codes := make([]byte, t.Rows*rowBytes)
	for r := range t.Rows {
		packBits(codes[r*rowBytes:(r+1)*rowBytes], 0, t.Code[r*t.Cols:(r+1)*t.Cols], bits)
	}
	zeros := checkpoint.NamedTensor{Name: name + "zeros", Shape: []int{len(t.Zero)}}
	whole := make([]int16, len(t.Zero))
	zeros.Data = whole
	for i, z := range t.Zero {
		if whole[i] = int16(z); float32(whole[i]) != z || math.Abs(float64(z)) > math.MaxInt16 {
			zeros.Data = t.Zero
			break
		}
	}
	all = append(all,
		checkpoint.NamedTensor{Name: name + "codes", Shape: []int{t.Rows, rowBytes}, Data: codes},
		checkpoint.NamedTensor{Name: name + "scales", Shape: []int{len(t.Scale)}, Data: t.Scale},
		zeros)
	if t.GroupOf != nil {
		all = append(all, checkpoint.NamedTensor{Name: name + "group_of", Shape: []int{t.Cols}, Data: t.GroupOf})
	}
	return all
}

// Stored is an open quantized checkpoint.
type Stored struct {
	Dir    string
	Config checkpoint.Config
	Header Header
}

// IsStored says whether a folder holds a quantized checkpoint.
func IsStored(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, endsFile))
	return err == nil
}

// OpenStored reads what a quantized checkpoint is; Model reads the weights.
func OpenStored(dir string) (*Stored, error) {
	s := &Stored{Dir: dir}
	var err error
	if s.Config, err = checkpoint.ReadConfig(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, endsFile)
	f, err := checkpoint.OpenSafetensors(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m := f.Metadata()
	if m["format"] != storedFormat {
		return nil, fmt.Errorf("%s: metadata format is %q, expected %q", path, m["format"], storedFormat)
	}
	d := json.NewDecoder(bytes.NewReader([]byte(m["header"])))
	d.DisallowUnknownFields()
	if err := d.Decode(&s.Header); err != nil {
		return nil, fmt.Errorf("%s: metadata header: %w", path, err)
	}
	if err := s.Header.Method.Validate(); err != nil {
		return nil, fmt.Errorf("%s: metadata header: %w", path, err)
	}
	return s, nil
}

// Digest returns the SHA-256, in hexadecimal, of the files that hold the model,
// config.json included.
func (s *Stored) Digest() (string, error) {
	h := sha256.New()
	names := []string{"config.json", endsFile}
	for k := range s.Config.Layers {
		names = append(names, blockFile(k))
	}
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(s.Dir, n))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n", n, len(b))
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Model puts the model on a backend, with the method's treatment of
// activations, keys and values. It computes what the model that was quantized
// computes, bit for bit. Weights stay packed where the backend multiplies them
// so: see Linear.packed; the ends are kept in 16 bits where they are stored so.
func (s *Stored) Model(be backend.Backend) (*decoder.Model, error) {
	a := &assembly{m: s.Header.Method, be: be, config: s.Config}
	r, err := s.open(endsFile)
	if err != nil {
		return nil, err
	}
	defer r.f.Close()
	c := s.Config
	a.parts.Embedding = r.weight(be, "model.embed_tokens.weight", c.VocabSize, c.HiddenSize)
	if norm := r.floats("model.norm.weight", c.HiddenSize); norm != nil {
		if a.parts.FinalNorm, err = be.NewVector(norm); err != nil {
			return nil, err
		}
	}
	if !c.TiedEmbeddings {
		a.parts.Head = r.weight(be, "lm_head.weight", c.VocabSize, c.HiddenSize)
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	if err := s.blocks(a.Block); err != nil {
		return nil, err
	}
	return a.model()
}

// Send hands the parts of the checkpoint to a sink, as Quantize did.
func (s *Stored) Send(sink Sink) error {
	r, err := s.open(endsFile)
	if err != nil {
		return err
	}
	defer r.f.Close()
	c := s.Config
	e := &Ends{
		Embedding: r.floats("model.embed_tokens.weight", c.VocabSize, c.HiddenSize),
		FinalNorm: r.floats("model.norm.weight", c.HiddenSize),
	}
	if !c.TiedEmbeddings {
		e.Head = r.floats("lm_head.weight", c.VocabSize, c.HiddenSize)
	}
	if err := r.end(); err != nil {
		return err
	}
	if err := sink.Ends(c, e); err != nil {
		return err
	}
	return s.blocks(func(k int, b *Block) error {
		if err := b.settle(); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(s.Dir, blockFile(k)), err)
		}
		return sink.Block(k, b)
	})
}

// blocks calls f with every block, whose values may have to be settled.
func (s *Stored) blocks(f func(k int, b *Block) error) error {
	for k := range s.Config.Layers {
		b, err := s.block(k)
		if err != nil {
			return err
		}
		if err := f(k, b); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(s.Dir, blockFile(k)), err)
		}
	}
	return nil
}

// reader reads the tensors of one file; the first fault stays in err.
type reader struct {
	f    *checkpoint.File
	used map[string]bool
	err  error
}

func (s *Stored) open(name string) (*reader, error) {
	f, err := checkpoint.OpenSafetensors(filepath.Join(s.Dir, name))
	return &reader{f: f, used: map[string]bool{}}, err
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %w", r.f.Path(), fmt.Errorf(format, args...))
	}
}

// has says whether there is a tensor.
func (r *reader) has(name string) bool { _, ok := r.f.Tensor(name); return ok }

// tensor returns a tensor of a shape.
func (r *reader) tensor(name string, shape ...int) (checkpoint.Tensor, bool) {
	t, ok := r.f.Tensor(name)
	r.used[name] = true
	if !ok {
		r.fail("no tensor %s", name)
		return t, false
	}
	if fmt.Sprint(t.Shape) != fmt.Sprint(shape) {
		r.fail("tensor %s has the shape %v, expected %v", name, t.Shape, shape)
		return t, false
	}
	return t, r.err == nil
}

func (r *reader) floats(name string, shape ...int) []float32 {
	t, ok := r.tensor(name, shape...)
	if !ok {
		return nil
	}
	v, err := t.Float32(nil)
	if err != nil {
		r.fail("%w", err)
	}
	return v
}

// weight puts a matrix on a backend.
func (r *reader) weight(be backend.Backend, name string, rows, cols int) backend.Weight {
	t, ok := r.tensor(name, rows, cols)
	if !ok {
		return nil
	}
	w, err := decoder.LoadWeight(be, t)
	if err != nil {
		r.fail("%w", err)
	}
	return w
}

func (r *reader) integers(name string, n int) []int32 {
	t, ok := r.tensor(name, n)
	if !ok {
		return nil
	}
	v, err := t.Int32(nil)
	if err != nil {
		r.fail("%w", err)
	}
	return v
}

// end returns the first fault; a tensor that nobody asked for is one.
func (r *reader) end() error {
	for _, n := range r.f.Names() {
		if !r.used[n] {
			r.fail("tensor %s is not used by the method", n)
		}
	}
	return r.err
}

// quantized reads the integers of a matrix.
func (r *reader) quantized(name string, q quantize.Quantizer, rows, cols int) *quantize.Tensor {
	n, err := q.Groups(rows, cols)
	if err != nil {
		r.fail("%s: %w", name, err)
		return nil
	}
	rowBytes := (cols*q.Bits + 7) / 8
	codes, ok := r.tensor(name+"codes", rows, rowBytes)
	if !ok {
		return nil
	}
	if codes.DType != checkpoint.U8 {
		r.fail("tensor %scodes has dtype %s, expected U8", name, codes.DType)
		return nil
	}
	t := &quantize.Tensor{Quantizer: q, Rows: rows, Cols: cols, Scale: r.floats(name+"scales", n)}
	if z, ok := r.f.Tensor(name + "zeros"); ok && z.DType == checkpoint.I16 {
		t.Zero = make([]float32, n)
		for i, v := range r.integers(name+"zeros", n) {
			t.Zero[i] = float32(v)
		}
	} else {
		t.Zero = r.floats(name+"zeros", n)
	}
	if r.has(name + "group_of") {
		t.GroupOf = r.integers(name+"group_of", cols)
	}
	if r.err != nil {
		return nil
	}
	t.Code = make([]uint8, rows*cols)
	mask := byte(1<<q.Bits - 1)
	for i := range rows {
		row := codes.RowBytes(i)
		d := t.Code[i*cols : (i+1)*cols]
		for c := range d {
			at := c * q.Bits
			v := row[at/8] >> (at % 8)
			if at%8+q.Bits > 8 {
				v |= row[at/8+1] << (8 - at%8)
			}
			d[c] = v & mask
		}
	}
	return t
}

// block reads block k. The values of linear maps that are integers alone are
// left to settle.
func (s *Stored) block(k int) (*Block, error) {
	r, err := s.open(blockFile(k))
	if err != nil {
		return nil, err
	}
	defer r.f.Close()
	c, m := s.Config, s.Header.Method
	b := &Block{}
	for i, n := range normNames {
		b.Norms[i] = r.floats(n, c.HiddenSize)
	}
	widths := [4]int{c.HiddenSize, c.QueryWidth(), c.HiddenSize, c.IntermediateSize}
	for i, n := range inputNames {
		if !m.Reorder {
			break
		}
		b.Order[i] = r.integers("order."+n, widths[i])
		if _, err := quantize.InvertIndex(b.Order[i]); err != nil && r.err == nil {
			r.fail("tensor order.%s: %w", n, err)
		}
	}
	x, quantized := m.WeightMixed()
	if m.GPTQ != nil {
		x.Body.Tail = quantize.TailShort
	}
	for i, out := range [decoder.LinearMaps]int{c.QueryWidth(), c.KVWidth(), c.KVWidth(), c.HiddenSize, c.IntermediateSize, c.IntermediateSize, c.HiddenSize} {
		l := &b.Linears[i]
		name := linearNames[i] + "."
		l.Out, l.In = out, widths[inputOf[i]]
		if hasBias(c, i) {
			l.Bias = r.floats(name+"bias", out)
		}
		if !quantized {
			l.Values = r.floats(name+"weight", out, l.In)
			continue
		}
		if x.Outliers >= l.In {
			return nil, fmt.Errorf("%s: %s has %d columns, the method %d outliers", r.f.Path(), linearNames[i], l.In, x.Outliers)
		}
		body := l.In - x.Outliers
		l.Body = r.quantized(name, x.Body, out, body)
		var kept []float32
		switch {
		case x.Outliers == 0:
		case x.Outlier.Bits > 0:
			l.Outlier = r.quantized(name+"outlier.", x.Outlier, out, x.Outliers)
		default:
			kept = r.floats(name+"outlier.values", out, x.Outliers)
		}
		if r.err != nil {
			return nil, r.err
		}
		if kept != nil {
			l.Values = make([]float32, out*l.In)
			for row := range out {
				copy(l.Values[row*l.In+body:(row+1)*l.In], kept[row*x.Outliers:])
			}
		}
	}
	return b, r.end()
}

// Simulated is the Sink that writes the dequantized weights as an ordinary
// checkpoint in float32, in the order and the basis of ordinary inputs. What a
// method does to activations, keys and values is not in it.
type Simulated struct {
	dir, source string
	method      quantize.Method
	note        string // in config.json and the weights' metadata, unless empty
	config      checkpoint.Config
	index       map[string]string
	bytes       int64
}

// NewSimulated returns the sink for a folder that exists.
func NewSimulated(dir, source string, m quantize.Method) *Simulated {
	return &Simulated{dir: dir, source: source, method: m, index: map[string]string{}}
}

// noteKey is the key under which a checkpoint says that it is a Rotate of
// another.
const noteKey = "change_of_basis"

// NewRotated returns the sink of Rotate for a folder that exists. The
// config.json is made from that of the folder source; there and in the metadata
// of every file, note stands under the key change_of_basis.
func NewRotated(dir, source, note string) *Simulated {
	s := NewSimulated(dir, source, quantize.Method{})
	s.note = note
	return s
}

func (s *Simulated) write(i int, all []checkpoint.NamedTensor) error {
	file := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, s.config.Layers+1)
	for j := range all {
		n := int64(4)
		for _, d := range all[j].Shape {
			n *= int64(d)
		}
		all[j].DType = checkpoint.F32
		s.index[all[j].Name] = file
		s.bytes += n
	}
	metadata := map[string]string{"format": "pt"}
	if s.note != "" {
		metadata[noteKey] = s.note
	}
	return writeFile(filepath.Join(s.dir, file), all, metadata)
}

// Ends writes config.json and the first file.
func (s *Simulated) Ends(c checkpoint.Config, e *Ends) error {
	s.config = c
	keys := map[string]any{"tie_word_embeddings": e.Head == nil, "torch_dtype": "float32"}
	if s.note != "" {
		keys[noteKey] = s.note
	}
	if err := writeConfig(s.source, s.dir, keys); err != nil {
		return err
	}
	return s.write(0, endTensors(c, e))
}

// Block writes one block, and with the last one the index.
func (s *Simulated) Block(k int, b *Block) error {
	if err := b.ordinary(s.method, s.config); err != nil {
		return err
	}
	prefix := "model.layers." + strconv.Itoa(k) + "."
	var all []checkpoint.NamedTensor
	add := func(name string, v []float32, shape ...int) {
		all = append(all, checkpoint.NamedTensor{Name: prefix + name, Shape: shape, Data: v})
	}
	for i, v := range b.Norms {
		add(normNames[i]+".weight", v, len(v))
	}
	fused := map[int]struct {
		name string
		maps []int
	}{}
	if s.config.Architecture == "Phi3ForCausalLM" {
		fused[decoder.QueryMap] = struct {
			name string
			maps []int
		}{"self_attn.qkv_proj", fed[0]}
		fused[decoder.GateMap] = struct {
			name string
			maps []int
		}{"mlp.gate_up_proj", fed[2]}
		fused[decoder.KeyMap], fused[decoder.ValueMap], fused[decoder.UpMap] = fused[0], fused[0], fused[decoder.GateMap]
	}
	for i := range b.Linears {
		l := &b.Linears[i]
		if f, ok := fused[i]; ok {
			if f.maps[0] == i {
				var v []float32
				for _, j := range f.maps {
					v = append(v, b.Linears[j].Values...)
				}
				add(f.name+".weight", v, len(v)/l.In, l.In)
			}
			continue
		}
		add(linearNames[i]+".weight", l.Values, l.Out, l.In)
		if l.Bias != nil {
			add(linearNames[i]+".bias", l.Bias, l.Out)
		}
	}
	if err := s.write(k+1, all); err != nil || k+1 < s.config.Layers {
		return err
	}
	text, err := json.MarshalIndent(map[string]any{"metadata": map[string]int64{"total_size": s.bytes}, "weight_map": s.index}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, "model.safetensors.index.json"), append(text, '\n'), 0o644)
}

// ordinary takes the orders and the rotations that act at run time into the
// weights: the same function of the weights' inputs without them.
func (b *Block) ordinary(m quantize.Method, c checkpoint.Config) error {
	if b.Order[0] != nil {
		var back [4][]int32
		for i, o := range b.Order {
			var err error
			if back[i], err = quantize.InvertIndex(o); err != nil {
				return err
			}
		}
		b.permute(back)
		b.Order = [4][]int32{}
	}
	if m.Algorithm != quantize.QuaRot {
		return nil
	}
	r, err := quantize.NewRotation(c.IntermediateSize, true)
	if err != nil {
		return err
	}
	if err := r.ApplyOnline(b.Linears[decoder.DownMap].Values); err != nil {
		return err
	}
	// Column j of the transform across heads is what it makes of unit vector j.
	n := c.Heads
	t := make([]float32, n*n)
	for i := range n {
		t[i*n+i] = 1
		if err := quantize.HadamardAcrossHeads(t[i*n:(i+1)*n], n, 1); err != nil {
			return err
		}
	}
	w := b.Linears[decoder.OutputMap].Values
	mixed := make([]float32, c.QueryWidth())
	for at := 0; at < len(w); at += len(mixed) {
		row := w[at : at+len(mixed)]
		for h := range n {
			for i := range c.HeadDim {
				var sum float32
				for g := range n {
					sum += float32(row[g*c.HeadDim+i] * t[h*n+g])
				}
				mixed[h*c.HeadDim+i] = sum
			}
		}
		copy(row, mixed)
	}
	return nil
}

// Package backend is the one interface that compute kernels satisfy: the
// decoder calls it and knows nothing of where the numbers live.
//
// Data flow of one forward pass over a ragged batch (sequences laid end to
// end in the rows of one matrix, no padding):
//
//  1. Embed turns token ids into rows.
//  2. Per block: RMSNorm, three MatMul, Rope, Append (keys and values go to
//     each sequence's Cache), Attention, MatMul, RMSNorm, two MatMul,
//     SiluMul, MatMul.
//  3. RMSNorm, then LogProbs on the scored rows only.
//
// A device backend may queue all of it; Download, LogProbs and Sync wait.
// Calls with shapes that do not fit are a bug of the caller and panic;
// failures of the device surface as the error of Sync, LogProbs or of the
// allocating calls.
package backend

// Matrix is a float32 matrix (rows, cols), row-major, in the memory of the
// backend that allocated it.
type Matrix interface {
	Rows() int
	Cols() int
	// Slice returns the view of rows [from, to), sharing memory.
	Slice(from, to int) Matrix
}

// Weight is a linear map (out, in) as loaded by NewWeight; read-only, safe
// for concurrent use.
type Weight interface {
	Out() int
	In() int
	// Bytes is the memory that the weight occupies.
	Bytes() int64
}

// Vector is a float32 vector in the backend's memory (norm gains, biases).
type Vector interface {
	Len() int
}

// Element is the type in which the values of an unquantised weight exist.
type Element uint8

const (
	Float32  Element = iota
	BFloat16         // the upper 16 bits of a float32
	Float16          // IEEE 754 binary16
)

// Dense is the source of an unquantised weight. Fill writes rows [from, to)
// of the (Out, In) matrix to dst in row-major order; it may be called from
// several goroutines and for rows in any order.
//
// Where every value exists in 16 bits, Element says in which and Fill16 writes
// the same rows as bit patterns. A backend may then keep 16 bits per value:
// widening is exact, so every result has the bits that Fill's values give.
type Dense struct {
	Out, In int
	Fill    func(dst []float32, from, to int) error
	Element Element                                // what Fill16 writes; Float32: there is no Fill16
	Fill16  func(dst []uint16, from, to int) error // like Fill
}

// Packed is the source of a group-wise quantised weight that stays packed in
// memory: value = Scales[r,g] * (code - Zeros[r,g]) in float32, g = column /
// Group (Group 0: one group per row). With a Codebook it is Scales[r,g] *
// Codebook[code], and there are no Zeros. A backend copies what it needs; the
// slices stay the caller's.
type Packed struct {
	Out, In int
	Bits    int       // bits per code: 1..8
	Group   int       // consecutive input columns that share a scale; 0 = the whole row
	Codes   []byte    // rows start on byte boundaries; code c sits at bits [c*Bits, (c+1)*Bits) of its row, least significant bit first
	Scales  []float32 // (Out, groups)
	Zeros   []uint8   // (Out, groups); nil with a Codebook

	Codebook []float32 // nil, or the 16 values of 4-bit codes
}

// CacheShape sizes the key/value cache of one sequence.
type CacheShape struct {
	Layers, KVHeads, HeadDim int
	Capacity                 int // positions
}

// Bytes is the float32 size of the keys and values of all layers.
func (s CacheShape) Bytes() int64 {
	return 2 * 4 * int64(s.Layers) * int64(s.KVHeads) * int64(s.HeadDim) * int64(s.Capacity)
}

// Cache holds the keys (after RoPE) and values of one sequence, per layer
// (0-based). It has no length of its own: Sequence says which positions are
// in use. Not safe for concurrent writes.
type Cache interface {
	Shape() CacheShape
	// ReadKV copies positions [from, to) of a layer to k and v, each
	// (to-from, KVHeads*HeadDim) row-major.
	ReadKV(layer, from, to int, k, v []float32)
	// WriteKV replaces positions [from, from+rows) of a layer.
	WriteKV(layer, from, rows int, k, v []float32)
}

// Sequence is one sequence's share of a ragged batch: rows [Row, Row+Count)
// of the batch are positions [Start, Start+Count) of the sequence whose
// earlier positions lie in Cache.
type Sequence struct {
	Row, Count, Start int
	Cache             Cache
}

// RopeTable holds the rotation of each position: cosine and sine of
// position*frequency, (positions, HeadDim/2), computed in float64 and rounded
// once.
type RopeTable struct {
	Half     int // frequencies = rotated dims / 2
	Cos, Sin []float32
}

// AttentionShape says how query heads map on the cache.
type AttentionShape struct {
	Heads, KVHeads, HeadDim int
	Scale                   float32 // applied to q·k
	Window                  int     // keys a position sees, itself included; 0 = all earlier ones
}

// Target asks for the log-probability of token ID at row Row of the hidden
// matrix.
type Target struct {
	Row int32
	ID  int32
}

// TokenScore is the answer to a Target.
type TokenScore struct {
	LogProb float64 // natural logarithm
	Argmax  int32   // most probable token of the row, the smallest id among equals
}

// Backend runs the operations of a decoder. Every result depends only on the
// operands of its own row or sequence: not on the number of rows, on what
// other rows hold or on the number of workers, bit for bit.
type Backend interface {
	Name() string

	Alloc(rows, cols int) (Matrix, error) // zeroed
	Upload(dst Matrix, src []float32)
	Download(dst []float32, src Matrix)
	// Copy copies rows: dst and src have equal shapes.
	Copy(dst, src Matrix)
	NewVector(v []float32) (Vector, error)
	NewWeight(d Dense) (Weight, error)
	NewPackedWeight(p Packed) (Weight, error)
	NewCache(s CacheShape) (Cache, error)

	// Embed: dst[i] = row ids[i] of table.
	Embed(dst Matrix, table Weight, ids []int32)
	// RMSNorm: dst = src / sqrt(mean(src²) + epsilon) * gain, per row.
	RMSNorm(dst, src Matrix, gain Vector, epsilon float64)
	// MatMul: dst = src · wᵀ (+ bias), or dst += src · wᵀ when accumulate.
	// src is (rows, In), dst (rows, Out); bias may be nil.
	MatMul(dst, src Matrix, w Weight, bias Vector, accumulate bool)
	// Rope rotates each head of x in place, halves convention: dims i and
	// i+Half form a pair; dims beyond 2*Half stay. positions[r] is the row
	// of the table for row r.
	Rope(x Matrix, heads, headDim int, positions []int32, table *RopeTable)
	// Append stores the rows of k and v, (rows, KVHeads*HeadDim), in the
	// caches of the sequences they belong to.
	Append(layer int, k, v Matrix, seqs []Sequence)
	// Attention: causal, over the cached positions of each sequence up to
	// and including the row's own. q and dst are (rows, Heads*HeadDim).
	Attention(dst, q Matrix, layer int, seqs []Sequence, shape AttentionShape)
	// SiluMul: gate = gate*sigmoid(gate) * up.
	SiluMul(gate, up Matrix)
	// MapRows lets the host change the rows of x in place: f is called with
	// runs of whole rows, from several goroutines, and must treat each row by
	// itself. It waits for queued work and returns the error of the first run,
	// in the order of the rows, that has one.
	MapRows(x Matrix, f func(rows []float32) error) error
	// LogProbs scores targets, sorted by row, against softmax(hidden·headᵀ).
	LogProbs(dst []TokenScore, hidden Matrix, head Weight, targets []Target) error

	// Sync waits for queued work and returns the first failure since the
	// last call.
	Sync() error
	Close() error
}

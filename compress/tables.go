package compress

import (
	"cmp"
	_ "embed"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"
	"slices"
	"sync"
)

// Static tables of the codec "split1": frequencies agreed before the first
// message, so that none travel. A row's table is chosen by its Q, by its token
// class (the mean magnitude of its codes, sent with the row) and, per column, by
// a channel class (part of the tables).
const (
	alphabetSize      = 32 // symbols of the lane coder
	maxTokenClasses   = 16
	trainTokenClasses = 8
	channelClasses    = 4
	maxHotChannels    = 256
	largestBits       = 7 // Q
	// statisticScale is the fixed point of the row statistic by which token
	// classes are told apart: floor(256 * sum |code| / columns).
	statisticScale = 256
)

// rawBits returns how many low bits of a code travel as they are, outside the
// lane coder, whose alphabet holds the codes of up to 4 magnitude bits.
func rawBits(q int) int { return max(0, q-4) }

// Tables are the static tables of one stream: the boundary of one layer, or the
// keys or values of one layer. They are immutable and safe for concurrent use.
type Tables struct {
	id       uint16
	cols     int     // 0: any, the built-in tables
	class    []uint8 // channel class of each column
	hot      []uint32
	hotIndex []uint16 // 1 + place in hot, 0 for the others
	byQ      [largestBits + 1]*section
}

// section holds the tables of the rows with one Q.
type section struct {
	edges     []uint16 // row statistics at which the next token class begins, rising
	classes   int      // channel classes: 1 or channelClasses
	freq      [][channelClasses][alphabetSize]uint16
	centroids [][1 << 4]int8 // by token class and magnitude code, 1/256 steps; nil: none
	rate      []uint32       // expected 1/64 bits per value of each token class, raw bits included
	models    []*laneModel   // of each token class, made when first asked for
	once      []sync.Once
}

// ID returns the number under which messages refer to the tables.
func (t *Tables) ID() uint16 { return t.id }

// Cols returns the number of columns of the matrices that the tables are for.
func (t *Tables) Cols() int { return t.cols }

// Hot returns the channels whose values are often above the threshold, rising.
func (t *Tables) Hot() []uint32 { return slices.Clone(t.hot) }

// TrainedBits returns the magnitude bits for which rows were seen in training.
// Rows of other bits are coded with the built-in tables.
func (t *Tables) TrainedBits() []int {
	var out []int
	for q, s := range t.byQ {
		if s != nil {
			out = append(out, q)
		}
	}
	return out
}

// of returns the section for rows of q bits and the channel classes under it.
func (t *Tables) of(q int) (*section, []uint8) {
	if s := t.byQ[q]; s != nil {
		return s, t.class
	}
	return builtinTables().byQ[q], nil
}

func (s *section) tokenClasses() int { return len(s.freq) }

// tokenClass returns the class of a row from its statistic.
func (s *section) tokenClass(statistic uint32) int {
	c := 0
	for c < len(s.edges) && statistic >= uint32(s.edges[c]) {
		c++
	}
	return c
}

// model returns the lane coder's form of a token class.
func (s *section) model(class int) *laneModel {
	s.once[class].Do(func() {
		s.models[class] = new(laneModel)
		s.models[class].build(&s.freq[class], s.classes)
	})
	return s.models[class]
}

// finish prepares what is derived from freq; class holds the channel classes, or
// nil when there is one.
func (s *section) finish(q int, class []uint8) {
	weight := [channelClasses]uint64{}
	for _, c := range class {
		weight[c]++
	}
	if class == nil {
		weight[0] = 1
	}
	s.models = make([]*laneModel, len(s.freq))
	s.once = make([]sync.Once, len(s.freq))
	s.rate = make([]uint32, len(s.freq))
	for t := range s.freq {
		var sum, n uint64
		for c := range s.classes {
			var h uint64
			for _, f := range s.freq[t][c] {
				h += uint64(f) * uint64(symbolCost(f))
			}
			sum += weight[c] * (h >> (probBits + costBits - 6))
			n += weight[c]
		}
		s.rate[t] = uint32(sum/max(n, 1)) + uint32(rawBits(q))<<6
	}
}

// costBits is the fixed point of symbolCost.
const costBits = 16

// symbolCost returns the bits that a symbol of frequency f costs,
// 12 - log2(f), in units of 2^-costBits, and a large number for f = 0. All in
// integers, so that training gives the same tables on every processor.
func symbolCost(f uint16) uint32 { return symbolCosts()[f] }

var symbolCosts = sync.OnceValue(func() *[probOne + 1]uint32 {
	var costs [probOne + 1]uint32
	costs[0] = 64 << costBits
	for f := uint64(1); f <= probOne; f++ {
		whole := bits.Len64(f) - 1
		log := uint32(whole) << costBits
		y := f << (31 - whole) // in [2^31, 2^32)
		for i := costBits - 1; i >= 0; i-- {
			y = y * y >> 31
			if y >= 1<<32 {
				y >>= 1
				log |= 1 << i
			}
		}
		costs[f] = probBits<<costBits - log
	}
	return &costs
})

// normalise32 scales counts of the symbols to frequencies that sum to probOne.
func normalise32(dst *[alphabetSize]uint16, counts *[alphabetSize]uint64) {
	var wide [256]uint32
	largest := slices.Max(counts[:])
	shift := max(0, bits.Len64(largest)-26) // 32 of them stay in 32 bits
	for s, n := range counts {
		if n > 0 {
			wide[s] = uint32(max(1, n>>shift))
		}
	}
	var f frequencies
	f.normalise(&wide)
	copy(dst[:], f.freq[:alphabetSize])
}

// symbolRange returns the symbols that the codes of q bits take, both included.
func symbolRange(q int) (lo, hi int) {
	r := rawBits(q)
	return 1 >> r, (1<<(q+1) - 1) >> r
}

// builtinTables are used where nothing was trained: for each Q sixteen token
// classes and one channel class. They are part of the wire format (FORMAT.md),
// and a file rather than a formula, because an error function may differ between
// processors in its last bits.
var builtinTables = sync.OnceValue(func() *Tables {
	t, err := parseBuiltin(builtinFile)
	if err != nil {
		panic("compress: builtin.tables: " + err.Error())
	}
	return t
})

//go:embed builtin.tables
var builtinFile []byte

func parseBuiltin(b []byte) (*Tables, error) {
	t := new(Tables)
	in := parser{b: b}
	for q := 1; q <= largestBits; q++ {
		if got := in.byte(); in.bad || int(got) != q {
			return nil, fmt.Errorf("section of %d bits, expected %d", got, q)
		}
		s, err := parseSection(&in, q, 1)
		if err != nil {
			return nil, fmt.Errorf("section of %d bits: %w", q, err)
		}
		s.finish(q, nil)
		t.byQ[q] = s
	}
	if len(in.b) > 0 {
		return nil, fmt.Errorf("%d bytes too many", len(in.b))
	}
	return t, nil
}

// Bounds of training: the bytes that it keeps of the rows, and the columns of
// trained tables, whose counts take up to 7 * 8 * 128 bytes per column.
const (
	maxTrainingBytes = 1 << 26
	maxTableCols     = 1 << 17
)

// sample is the memory of training: the codes of the rows seen.
type sample struct {
	cols  int
	rows  int     // rows seen, those without codes included
	q     []uint8 // of the rows kept
	codes []int8  // (len(q), cols)
	above []uint32
	bias  []rowBias // of the rows kept; empty when only codes are known
}

// rowBias is the sum of (|x|/scale - |code|) * 256 and the count of one row, by
// magnitude code.
type rowBias struct {
	sum   [1 << 4]int32
	count [1 << 4]uint32
}

const rowBiasBytes = 1 << 4 * (4 + 4)

func newSample(cols int) *sample { return &sample{cols: cols, above: make([]uint32, cols)} }

// add takes in the rows of q, and of m, the matrix that q came from, when it is
// known, which it must be for all rows or for none. Rows beyond the bound are
// left out.
func (s *sample) add(q *Quantised, m *Matrix) {
	each := s.cols + 1
	if m != nil {
		each += rowBiasBytes
	}
	for r := range q.Rows {
		if (len(s.q)+1)*each > maxTrainingBytes {
			return
		}
		s.rows++
		for _, j := range q.Above.Col[q.Above.RowPtr[r]:q.Above.RowPtr[r+1]] {
			s.above[j]++
		}
		if q.Q[r] == 0 {
			continue
		}
		codes := q.Codes[r*q.Cols : (r+1)*q.Cols]
		s.q = append(s.q, q.Q[r])
		for _, c := range codes {
			s.codes = append(s.codes, int8(c))
		}
		if m == nil {
			continue
		}
		var b rowBias
		if q.Q[r] <= 4 {
			for j, c := range codes {
				if c == 0 {
					continue
				}
				k := max(c, -c)
				x := math.Float32frombits(math.Float32bits(m.Row(r)[j]) &^ (1 << 31))
				b.sum[k] += roundEven((x/q.Scale[r] - float32(k)) * 256)
				b.count[k]++
			}
		}
		s.bias = append(s.bias, b)
	}
}

// statistic returns the row statistic of a sum of magnitudes.
func statistic(sum uint64, cols int) uint32 {
	return uint32(sum * statisticScale / uint64(max(cols, 1)))
}

// minTrainingRows is how many rows make a token class.
const minTrainingRows = 16

// tables trains on the rows kept. Channels are grouped by what their codes cost
// (k-means in code length), which finds both their spread and their bias. Integer
// arithmetic throughout: both ends of a stream come to the same tables.
func (s *sample) tables() (*Tables, error) {
	if len(s.q) == 0 {
		return nil, fmt.Errorf("compress: no row with a code in %d training rows, nothing to learn", s.rows)
	}
	t := &Tables{cols: s.cols}
	t.setHot(s.hotChannels())

	type counted struct {
		q       int
		classes int // token classes
		n       []uint32
		bias    [][1 << 4]int8
		edges   []uint16
	}
	var all []counted
	for q := 1; q <= largestBits; q++ {
		var rows []int
		for r, b := range s.q {
			if int(b) == q {
				rows = append(rows, r)
			}
		}
		if len(rows) == 0 {
			continue
		}
		stats := make([]uint32, len(rows))
		for i, r := range rows {
			var sum uint64
			for _, c := range s.codes[r*s.cols : (r+1)*s.cols] {
				sum += uint64(max(int32(c), -int32(c)))
			}
			stats[i] = statistic(sum, s.cols)
		}
		c := counted{q: q, edges: classEdges(stats, min(trainTokenClasses, max(1, len(rows)/minTrainingRows)))}
		c.classes = len(c.edges) + 1
		c.n = make([]uint32, c.classes*s.cols*alphabetSize)
		sec := section{edges: c.edges}
		sums := make([]struct {
			sum   [1 << 4]int64
			count [1 << 4]int64
		}, c.classes)
		shift, offset := rawBits(q), 1<<q
		for i, r := range rows {
			class := sec.tokenClass(stats[i])
			n := c.n[class*s.cols*alphabetSize:][:s.cols*alphabetSize]
			for j, code := range s.codes[r*s.cols : (r+1)*s.cols] {
				n[j*alphabetSize+(int(code)+offset)>>shift]++
			}
			if len(s.bias) == 0 {
				continue
			}
			for k := range s.bias[r].sum {
				sums[class].sum[k] += int64(s.bias[r].sum[k])
				sums[class].count[k] += int64(s.bias[r].count[k])
			}
		}
		if q <= 4 {
			c.bias = make([][1 << 4]int8, c.classes)
			for class := range sums {
				for k, n := range sums[class].count {
					if n > 0 {
						c.bias[class][k] = int8(min(max(sums[class].sum[k]/n, -127), 127))
					}
				}
			}
		}
		all = append(all, c)
	}

	// Start from equal shares of the channels by mean magnitude.
	total := make([]uint64, s.cols)
	for i, c := range s.codes {
		total[i%s.cols] += uint64(max(int32(c), -int32(c)))
	}
	order := make([]int, s.cols)
	for j := range order {
		order[j] = j
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(total[a], total[b]) })
	t.class = make([]uint8, s.cols)
	for i, j := range order {
		t.class[j] = uint8(i * channelClasses / s.cols)
	}

	const rounds = 12
	for round := 0; ; round++ {
		t.byQ = [largestBits + 1]*section{}
		for _, c := range all {
			sec := &section{edges: c.edges, classes: channelClasses, freq: make([][channelClasses][alphabetSize]uint16, c.classes)}
			sec.estimate(c.q, c.n, t.class)
			t.byQ[c.q] = sec
		}
		if round == rounds {
			break
		}
		moved := false
		for j := range s.cols {
			var cost [channelClasses]uint64
			for _, c := range all {
				sec := t.byQ[c.q]
				for class := range c.classes {
					n := c.n[(class*s.cols+j)*alphabetSize:][:alphabetSize]
					for sym, count := range n {
						if count == 0 {
							continue
						}
						for k := range cost {
							cost[k] += uint64(count) * uint64(symbolCost(sec.freq[class][k][sym]))
						}
					}
				}
			}
			best := t.class[j]
			for k := range cost {
				if cost[k] < cost[best] {
					best = uint8(k)
				}
			}
			if best != t.class[j] {
				t.class[j], moved = best, true
			}
		}
		if !moved {
			break
		}
	}
	for _, c := range all {
		sec := t.byQ[c.q]
		for _, b := range c.bias {
			if b != ([1 << 4]int8{}) {
				sec.centroids = c.bias
			}
		}
		sec.finish(c.q, t.class)
	}
	t.id = uint16(crc32.Checksum(t.appendBody(nil), castagnoli))
	return t, nil
}

// classEdges returns the statistics at which the rows fall into n equal parts.
func classEdges(stats []uint32, n int) []uint16 {
	sorted := slices.Sorted(slices.Values(stats))
	var edges []uint16
	for i := 1; i < n; i++ {
		e := min(sorted[i*len(sorted)/n], math.MaxUint16)
		if e > sorted[0] && (len(edges) == 0 || e > uint32(edges[len(edges)-1])) {
			edges = append(edges, uint16(e))
		}
	}
	return edges
}

// estimate sets the frequencies from counts (token class, channel, symbol) under
// the channel classes given: each class's own counts, with a little of the
// distribution over all token classes, and every symbol at least once.
func (s *section) estimate(q int, n []uint32, class []uint8) {
	cols := len(class)
	sums := make([][channelClasses][alphabetSize]uint64, len(s.freq))
	var over [channelClasses][alphabetSize]uint64 // token classes together
	var overTotal [channelClasses]uint64
	for t := range s.freq {
		for j, k := range class {
			for sym, count := range n[(t*cols+j)*alphabetSize:][:alphabetSize] {
				sums[t][k][sym] += uint64(count)
				over[k][sym] += uint64(count)
				overTotal[k] += uint64(count)
			}
		}
	}
	const unit, borrowed = 64, 32 // counts in 1/64; 32 values' worth is borrowed
	lo, hi := symbolRange(q)
	for t := range s.freq {
		for k := range channelClasses {
			var counts [alphabetSize]uint64
			for sym := lo; sym <= hi; sym++ {
				counts[sym] = unit*sums[t][k][sym] + unit*borrowed*over[k][sym]/max(overTotal[k], 1) + 1
			}
			normalise32(&s.freq[t][k], &counts)
		}
	}
}

// hotChannels returns the channels that are above the threshold often enough for
// a bit in every row to cost less than naming them, eight at a time.
func (s *sample) hotChannels() []uint32 {
	var often []uint32
	for j, n := range s.above {
		if uint64(n)*12 > uint64(s.rows) {
			often = append(often, uint32(j))
		}
	}
	slices.SortStableFunc(often, func(a, b uint32) int { return cmp.Compare(s.above[b], s.above[a]) })
	often = often[:min(len(often), maxHotChannels)]
	slices.Sort(often)
	return often
}

func (t *Tables) setHot(hot []uint32) {
	t.hot = hot
	t.hotIndex = make([]uint16, t.cols)
	for i, j := range hot {
		t.hotIndex[j] = uint16(i + 1)
	}
}

// Trainer learns tables from activations like those that will be sent.
type Trainer struct {
	reading reading
	sample  *sample
	q       Quantised
}

// NewTrainer returns a trainer for matrices of cols columns that go through the
// quantiser with the given options. It fails on options that are not valid, of
// which Tables, Lanes and Restore do not act here, and on less than 1 or more than
// 131072 columns.
func NewTrainer(cols int, o Options) (*Trainer, error) {
	r, err := o.reading()
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	if cols < 1 || cols > maxTableCols {
		return nil, fmt.Errorf("compress: tables of %d columns, expected 1 to %d", cols, maxTableCols)
	}
	return &Trainer{reading: r, sample: newSample(cols)}, nil
}

// Add takes in the rows of m; it keeps nothing of m's memory. It fails on another
// number of columns and where [Quantise] does. Rows are left out once 64 MiB are kept, a byte per
// value and 129 per row; Rows says how many were taken.
func (t *Trainer) Add(m Matrix) error {
	if m.Cols != t.sample.cols {
		return fmt.Errorf("compress: training matrix has %d columns, expected %d", m.Cols, t.sample.cols)
	}
	if err := t.q.quantise(m, &t.reading); err != nil {
		return err
	}
	t.sample.add(&t.q, &m)
	return nil
}

// Rows returns the number of rows learned from.
func (t *Trainer) Rows() int { return t.sample.rows }

// Tables returns tables for what was added. The same rows in the same order give
// the same tables. It fails when no row had a code.
func (t *Trainer) Tables() (*Tables, error) { return t.sample.tables() }

// The file of tables: "SBT", version, body, CRC-32C over all before it.
const (
	tablesMagic   = "SBT"
	tablesVersion = 1
)

// Append appends the file form of the tables (FORMAT.md).
func (t *Tables) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, tablesMagic...)
	dst = append(dst, tablesVersion)
	dst = t.appendBody(dst)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

func (t *Tables) appendBody(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(t.cols))
	var w bitWriter
	for _, c := range t.class {
		dst = w.write(dst, uint32(c), 2)
	}
	dst = w.flush(dst)
	dst = appendGaps(dst, t.hot)
	for q, s := range t.byQ {
		if s == nil {
			continue
		}
		dst = append(dst, byte(q), byte(len(s.edges)))
		for _, e := range s.edges {
			dst = binary.LittleEndian.AppendUint16(dst, e)
		}
		for i := range s.freq {
			for c := range channelClasses {
				var f frequencies
				copy(f.freq[:], s.freq[i][c][:])
				dst = f.append(dst)
			}
		}
		if s.centroids == nil {
			dst = append(dst, 0)
			continue
		}
		dst = append(dst, 1)
		for i := range s.centroids {
			for k := 1; k < 1<<q; k++ {
				dst = append(dst, byte(s.centroids[i][k]))
			}
		}
	}
	return dst
}

// ParseTables reads the file form of tables. Errors wrap [ErrMessage].
func ParseTables(b []byte) (*Tables, error) {
	t, err := parseTables(b)
	if err != nil {
		return nil, fmt.Errorf("%w: tables: %w", ErrMessage, err)
	}
	return t, nil
}

func parseTables(b []byte) (*Tables, error) {
	if len(b) < 8 || string(b[:3]) != tablesMagic {
		return nil, fmt.Errorf("%d bytes that do not begin with %q", len(b), tablesMagic)
	}
	if b[3] != tablesVersion {
		return nil, fmt.Errorf("version %d, expected %d", b[3], tablesVersion)
	}
	body := b[4 : len(b)-4]
	if want, got := binary.LittleEndian.Uint32(b[len(b)-4:]), crc32.Checksum(b[:len(b)-4], castagnoli); want != got {
		return nil, fmt.Errorf("checksum %08x, expected %08x", got, want)
	}
	t := &Tables{id: uint16(crc32.Checksum(body, castagnoli))}
	in := parser{b: body}
	cols := in.uvarint()
	if in.bad || cols == 0 || cols > maxTableCols || (cols*2+7)/8 > uint64(len(in.b)) {
		return nil, fmt.Errorf("%d columns in %d bytes", cols, len(b))
	}
	t.cols = int(cols)
	t.class = make([]uint8, cols)
	packed := bitReader{b: in.take((t.cols*2 + 7) / 8)}
	for j := range t.class {
		t.class[j] = uint8(packed.read(2))
	}
	if !packed.restIsZero() {
		return nil, fmt.Errorf("padding of the channel classes is not zero")
	}
	hot, err := in.gaps(nil, t.cols, maxHotChannels)
	if err != nil {
		return nil, fmt.Errorf("hot channels: %w", err)
	}
	t.setHot(hot)
	last := 0
	for len(in.b) > 0 {
		q := int(in.byte())
		if q <= last || q > largestBits {
			return nil, fmt.Errorf("section of %d bits after that of %d bits", q, last)
		}
		last = q
		s, err := parseSection(&in, q, channelClasses)
		if err == nil {
			err = s.parseCentroids(&in, q)
		}
		if err != nil {
			return nil, fmt.Errorf("section of %d bits: %w", q, err)
		}
		s.finish(q, t.class)
		t.byQ[q] = s
	}
	if last == 0 {
		return nil, fmt.Errorf("no section")
	}
	return t, nil
}

// parseSection reads the edges and frequencies of the rows of q bits, for the
// given number of channel classes.
func parseSection(in *parser, q, channels int) (*section, error) {
	edges := int(in.byte())
	if in.bad || edges >= maxTokenClasses {
		return nil, fmt.Errorf("%d edges of token classes, expected less than %d", edges, maxTokenClasses)
	}
	s := &section{classes: channels, freq: make([][channelClasses][alphabetSize]uint16, edges+1)}
	for range edges {
		e := in.take(2)
		if in.bad {
			return nil, fmt.Errorf("cut short in the edges")
		}
		v := binary.LittleEndian.Uint16(e)
		if n := len(s.edges); n > 0 && v <= s.edges[n-1] {
			return nil, fmt.Errorf("edge %d is %d after %d, expected them rising", n, v, s.edges[n-1])
		}
		s.edges = append(s.edges, v)
	}
	lo, hi := symbolRange(q)
	size := 2 + ((hi-lo+1)*probBits+7)/8
	for i := range s.freq {
		for c := range channels {
			b := in.take(size)
			if in.bad {
				return nil, fmt.Errorf("cut short in the frequencies")
			}
			if int(b[0]) != lo || int(b[1]) != hi {
				return nil, fmt.Errorf("frequencies of the symbols %d to %d, expected %d to %d", b[0], b[1], lo, hi)
			}
			var f frequencies
			if err := f.parse(b); err != nil {
				return nil, err
			}
			if slices.Contains(f.freq[lo:hi+1], 0) {
				return nil, fmt.Errorf("a symbol of %d to %d has frequency 0", lo, hi)
			}
			copy(s.freq[i][c][:], f.freq[:alphabetSize])
		}
	}
	return s, nil
}

// parseCentroids reads the mark of centroids and the centroids behind it.
func (s *section) parseCentroids(in *parser, q int) error {
	switch has := in.byte(); {
	case in.bad || has > 1 || has == 1 && q > 4:
		return fmt.Errorf("mark of centroids is %d", has)
	case has == 0:
		return nil
	}
	s.centroids = make([][1 << 4]int8, len(s.freq))
	for i := range s.centroids {
		for k := 1; k < 1<<q; k++ {
			s.centroids[i][k] = int8(in.byte())
		}
	}
	if in.bad {
		return fmt.Errorf("cut short in the centroids")
	}
	return nil
}

// appendGaps appends the number of rising columns and the gaps between them.
func appendGaps(dst []byte, cols []uint32) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(cols)))
	next := uint32(0)
	for _, j := range cols {
		dst = binary.AppendUvarint(dst, uint64(j-next))
		next = j + 1
	}
	return dst
}

// gapsSize returns the bytes of appendGaps.
func gapsSize(cols []uint32) int {
	n := uvarintSize(uint64(len(cols)))
	next := uint32(0)
	for _, j := range cols {
		n += uvarintSize(uint64(j - next))
		next = j + 1
	}
	return n
}

func uvarintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// parser reads numbers from the front of b; after something missing or not in
// its shortest form it is bad and gives zeros.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) uvarint() uint64 {
	v, n := binary.Uvarint(p.b)
	if n <= 0 || n > 1 && p.b[n-1] == 0 {
		p.bad, p.b = true, nil
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) take(n int) []byte {
	if n < 0 || n > len(p.b) {
		p.bad, p.b = true, nil
		return nil
	}
	out := p.b[:n]
	p.b = p.b[n:]
	return out
}

func (p *parser) byte() byte {
	if b := p.take(1); b != nil {
		return b[0]
	}
	return 0
}

// gaps reads what appendGaps wrote, at most limit columns below cols.
func (p *parser) gaps(dst []uint32, cols, limit int) ([]uint32, error) {
	n := p.uvarint()
	if p.bad || n > uint64(limit) || n > uint64(len(p.b)) {
		return dst, fmt.Errorf("%d columns in %d bytes, expected at most %d", n, len(p.b), limit)
	}
	next := uint64(0)
	for range n {
		gap := p.uvarint()
		if p.bad || gap >= uint64(cols) || next+gap >= uint64(cols) {
			return dst, fmt.Errorf("a column is missing or not below %d", cols)
		}
		dst = append(dst, uint32(next+gap))
		next += gap + 1
	}
	return dst, nil
}

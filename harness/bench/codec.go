package bench

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"splitbench/compress"
	"splitbench/results"
)

// CodecOptions say what Codec measures.
type CodecOptions struct {
	Inputs []Activations
	Codecs []string // names that compress.NewCodec knows
	Rivals []string // entropy coders to compare with, see Rivals
	// Tau and Bits are the thresholds and widths Qa-bar to combine; Readings
	// holds the other options.
	Tau      []float64
	Bits     []int
	Readings compress.Options
	// Streams is the length of the long symbol streams; 0 = 512 Ki.
	Streams int
	Timing  Timing
	// Step, if not nil, is told what is measured next.
	Step func(what string)
}

func (o *CodecOptions) step(format string, args ...any) {
	if o.Step != nil {
		o.Step(fmt.Sprintf(format, args...))
	}
}

// Codec measures the formats of the boundary tensor on every input, threshold
// and width, and the entropy coders below them.
func Codec(ctx context.Context, o CodecOptions) (*Report, error) {
	coders, err := openCoders(o.Rivals)
	if err != nil {
		return nil, err
	}
	r := &Report{}
	sizes, speeds := codecTables(o.Timing)
	for i := range o.Inputs {
		a := &o.Inputs[i]
		if slices.ContainsFunc(o.Codecs, trained) {
			note, err := trainingNote(a, o.Readings.Tables)
			if err != nil {
				return nil, err
			}
			r.Notes = append(r.Notes, note)
		}
		for ti, tau := range o.Tau {
			for bi, bits := range o.Bits {
				o.step("%s: tau %g, Qa %d", a.Name, tau, bits)
				settings := o.Readings
				settings.Threshold, settings.MaxActivationBits = tau, bits
				q, err := compress.Quantise(a.Rows, settings)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", a.Name, err)
				}
				p := point{input: a, settings: settings, order0: order0Bytes(q)}
				for _, name := range o.Codecs {
					if readingFree(name) && (ti > 0 || bi > 0) {
						continue // nothing changes
					}
					f, err := newFormat(name, a, settings)
					if err != nil {
						return nil, err
					}
					p.formats = append(p.formats, f)
				}
				if err := r.measureFormats(ctx, &p, &sizes, &speeds, o.Timing); err != nil {
					return nil, err
				}
			}
		}
	}
	r.Tables = append(r.Tables, sizes, speeds)
	if len(coders) == 1 {
		return r, nil // no rival to compare with
	}
	symbols := o.Streams
	if symbols == 0 {
		symbols = streamSymbols
	}
	streams := []stream{
		{"normal, sigma 1.7, 15 values", gaussianStream(symbols, 15, 1.7, 1)},
		{"normal, sigma 4, 31 values", gaussianStream(symbols, 31, 4, 2)},
		{"normal, sigma 1.7, 15 values, one token", gaussianStream(min(symbols, tokenSymbols), 15, 1.7, 3)},
	}
	for i := range o.Inputs {
		settings := o.Readings
		settings.Threshold, settings.MaxActivationBits = o.Tau[0], o.Bits[0]
		if slices.Contains(o.Tau, 5) {
			settings.Threshold = 5
		}
		if slices.Contains(o.Bits, 4) {
			settings.MaxActivationBits = 4
		}
		more, err := codeStreams(&o.Inputs[i], settings, symbols)
		if err != nil {
			return nil, err
		}
		streams = append(streams, more...)
	}
	against := "huff0"
	if !slices.Contains(o.Rivals, against) {
		against = o.Rivals[0]
	}
	o.step("entropy coders")
	if err := r.measureCoders(ctx, coders, streams, against, o.Timing); err != nil {
		return nil, err
	}
	r.Notes = append(r.Notes, "huff0 codes blocks of 128 KiB in four streams, zstd runs at its default level; all coders send their tables with every block or stream.")
	return r, nil
}

// trainingNote divides the rows of a where nothing else is there to train on,
// and says where trained tables come from.
func trainingNote(a *Activations, tables *compress.Tables) (string, error) {
	switch {
	case tables != nil && tables.Cols() != a.Rows.Cols:
		return "", fmt.Errorf("%s has rows of %d values, the tables are for %d", a.Name, a.Rows.Cols, tables.Cols())
	case tables != nil:
		return fmt.Sprintf("%s: split1 has the tables given.", a.Name), nil
	case a.Divide():
		return fmt.Sprintf("%s: split1 is trained on the first %d rows; all codecs are measured on the other %d.", a.Name, a.Train.Rows, a.Rows.Rows), nil
	case a.Train.Rows > 0:
		return fmt.Sprintf("%s: split1 is trained on %d other rows.", a.Name, a.Train.Rows), nil
	}
	return fmt.Sprintf("%s: split1 has its built-in tables, %d rows are too few to train on some and measure on others.", a.Name, a.Rows.Rows), nil
}

// point is one input with one setting of the quantiser.
type point struct {
	input    *Activations
	settings compress.Options
	order0   float64 // bytes per token: order-0 entropy of each row's codes
	formats  []*format
}

// order0Bytes is the mean over the rows of q of the order-0 entropy of the
// row's codes, in bytes; the frequencies cost nothing.
func order0Bytes(q *compress.Quantised) float64 {
	sum := 0.0
	for r := range q.Rows {
		if q.Q[r] > 0 {
			sum += entropyBytes(q.Codes[r*q.Cols : (r+1)*q.Cols])
		}
	}
	return sum / float64(q.Rows)
}

// format is a codec with the memory of its two ends.
type format struct {
	name  string
	codec compress.Codec
	dst   []byte
	out   []float32
	whole []byte   // one message of all rows
	each  [][]byte // one message per row
	parts [2]compress.Parts
}

// newFormat encodes the rows of a as one message and as one message each.
func newFormat(name string, a *Activations, settings compress.Options) (*format, error) {
	c, err := newCodec(name, a, settings)
	if err != nil {
		return nil, err
	}
	f := &format{name: name, codec: c, out: make([]float32, len(a.Rows.Data))}
	fail := func(err error) (*format, error) { return nil, fmt.Errorf("%s: %s: %w", a.Name, name, err) }
	if f.whole, f.parts[1], err = c.Encode(nil, a.Rows); err != nil {
		return fail(err)
	}
	for r := range a.Rows.Rows {
		msg, parts, err := c.Encode(nil, row(a.Rows, r))
		if err != nil {
			return fail(fmt.Errorf("row %d: %w", r, err))
		}
		f.each = append(f.each, msg)
		f.parts[0].Add(parts)
	}
	f.dst = make([]byte, 0, 2*len(f.whole)+1024)
	return f, nil
}

func row(m compress.Matrix, r int) compress.Matrix {
	return compress.Matrix{Rows: 1, Cols: m.Cols, Data: m.Row(r)}
}

// deviation is the error of restored values against those sent.
type deviation struct {
	max, mean float64
	snr       float64 // decibels; +Inf when nothing was lost
}

// restored decodes the one-token messages and compares; values that are not
// finite are left out.
func (f *format) restored(m compress.Matrix) (d deviation, err error) {
	var signal, noise, sum float64
	n := 0
	for r, msg := range f.each {
		got, err := f.codec.Decode(f.out, msg)
		if err != nil {
			return d, fmt.Errorf("row %d: %w", r, err)
		}
		for i, v := range m.Row(r) {
			x, y := float64(v), float64(got.Data[i])
			if math.IsNaN(x) || math.IsInf(x, 0) {
				continue
			}
			e := math.Abs(x - y)
			d.max = max(d.max, e)
			sum += e
			signal += x * x
			noise += e * e
			n++
		}
	}
	if n > 0 {
		d.mean = sum / float64(n)
	}
	d.snr = 10 * math.Log10(signal/noise)
	return d, nil
}

// ways are the four things that are timed of a format.
var ways = []struct {
	metric string
	tokens int // of one message; 0 = all rows
	run    func(f *format, m compress.Matrix) error
}{
	{"encode", 1, func(f *format, m compress.Matrix) error {
		for r := range m.Rows {
			if _, _, err := f.codec.Encode(f.dst, row(m, r)); err != nil {
				return err
			}
		}
		return nil
	}},
	{"decode", 1, func(f *format, _ compress.Matrix) error {
		for _, msg := range f.each {
			if _, err := f.codec.Decode(f.out, msg); err != nil {
				return err
			}
		}
		return nil
	}},
	{"encode", 0, func(f *format, m compress.Matrix) error {
		_, _, err := f.codec.Encode(f.dst, m)
		return err
	}},
	{"decode", 0, func(f *format, _ compress.Matrix) error {
		_, err := f.codec.Decode(f.out, f.whole)
		return err
	}},
}

func codecTables(t Timing) (sizes, speeds results.Table) {
	sizes = results.Table{
		Name: "sizes",
		Title: "Bytes per token of the boundary tensor and error of what is restored. Parts are those of one-token messages; " +
			"Whole is one message of all rows; Order-0 is the entropy of each row's codes; the error is that of all values against the input.",
		Columns: append(plain("Input", "Codec"), right("Tau"), right("Qa (bits)"),
			numeric("Header (B)", 1), numeric("Tables (B)", 1), numeric("Codes (B)", 1), numeric("Side (B)", 1), numeric("Sparse (B)", 1),
			numeric("Total (B)", 1), numeric("Whole (B)", 1), numeric("Order-0 (B)", 1), numeric("Over order-0 (%)", 1), numeric("Whole over (%)", 1),
			numeric("Max error", 4), numeric("Mean error", 4), numeric("SNR (dB)", 2)),
	}
	speeds = results.Table{
		Name:  "speeds",
		Title: fmt.Sprintf("Speed of the whole codec (threshold, quantiser, entropy coder, message), one thread, %d interleaved rounds: medians with best round and quartiles.", t.Rounds),
		Columns: append(plain("Input", "Codec"), right("Tau"), right("Qa (bits)"), right("Tokens per message"),
			numeric("Encode (µs/token)", 2), right("Best, quartiles"), numeric("Decode (µs/token)", 2), right("Best, quartiles"), numeric("Both (µs/token)", 2),
			numeric("Encode (Msymbols/s)", 0), numeric("Decode (Msymbols/s)", 0)),
	}
	return sizes, speeds
}

func (r *Report) measureFormats(ctx context.Context, p *point, sizes, speeds *results.Table, t Timing) error {
	m := p.input.Rows
	tokens := float64(m.Rows)
	var list []Contestant
	for _, f := range p.formats {
		for i := range ways {
			w := &ways[i]
			list = append(list, Contestant{Name: wayName(f.name, i), Work: tokens, Run: func(n int) error {
				for range n {
					if err := w.run(f, m); err != nil {
						return err
					}
				}
				return nil
			}})
		}
	}
	samples, err := Measure(ctx, list, t)
	if err != nil {
		return fmt.Errorf("%s: %w", p.input.Name, err)
	}
	for _, f := range p.formats {
		d, err := f.restored(m)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", p.input.Name, f.name, err)
		}
		base := results.Measurement{Bench: "codec", Input: p.input.Name, Subject: f.name, Threads: 1}
		tau, bits, order0 := text(none), text(none), math.NaN()
		if !readingFree(f.name) {
			base.Threshold, base.MaxActivationBits = &p.settings.Threshold, int32p(p.settings.MaxActivationBits)
			tau, bits, order0 = text(fmt.Sprint(p.settings.Threshold)), text(fmt.Sprint(p.settings.MaxActivationBits)), p.order0
		}
		head := []results.Value{text(p.input.Name), text(f.name), tau, bits}

		size := slices.Clone(head)
		var over, total [2]float64
		for i, count := range []int{1, m.Rows} {
			b := base
			b.Table, b.MessageTokens = sizes.Name, int32p(count)
			parts := f.parts[i]
			for _, part := range []struct {
				name  string
				bytes int
			}{{"header", parts.Header}, {"tables", parts.Tables}, {"codes", parts.Codes}, {"side", parts.Side}, {"sparse", parts.Sparse}} {
				v := float64(part.bytes) / tokens
				r.add(b, part.name, "bytes/token", v)
				if i == 0 {
					size = append(size, number(v))
				}
			}
			total[i] = float64(parts.Total()) / tokens
			over[i] = 100 * (total[i]/order0 - 1)
			r.add(b, "total", "bytes/token", total[i])
			r.add(b, "order0", "bytes/token", order0)
			r.add(b, "over_order0", "percent", over[i])
			if i == 0 {
				r.add(b, "max_error", "", d.max)
				r.add(b, "mean_error", "", d.mean)
				r.add(b, "snr", "dB", d.snr)
			}
		}
		sizes.Rows = append(sizes.Rows, append(size, number(total[0]), number(total[1]), number(order0), number(over[0]), number(over[1]),
			number(d.max), number(d.mean), number(d.snr)))

		for from := 0; from < len(ways); from += 2 {
			b := base
			count := ways[from].tokens
			if count == 0 {
				count = m.Rows
			}
			b.Table, b.MessageTokens = speeds.Name, int32p(count)
			line := append(slices.Clone(head), text(fmt.Sprint(count)))
			var both float64
			var rates []results.Value
			for i := from; i < from+2; i++ {
				s := find(samples, wayName(f.name, i))
				times, rate := s.Time(1e6/tokens), s.Rate(1e-6*float64(m.Cols))
				both += times.Median
				r.addTimed(b, ways[i].metric, "us/token", times, "", nil)
				r.addTimed(b, ways[i].metric, "Msymbols/s", rate, "", nil)
				line = append(line, number(times.Median), spread(times, 2))
				rates = append(rates, number(rate.Median))
			}
			speeds.Rows = append(speeds.Rows, append(append(line, number(both)), rates...))
		}
	}
	return nil
}

func wayName(format string, i int) string {
	return strings.Join([]string{format, ways[i].metric, fmt.Sprint(ways[i].tokens)}, " ")
}

// readingFree says that a codec has no readings: its messages do not depend on
// threshold and width.
func readingFree(codec string) bool { return codec == "raw16" }

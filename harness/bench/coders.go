package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/klauspost/compress/fse"
	"github.com/klauspost/compress/huff0"
	"github.com/klauspost/compress/zstd"

	"splitbench/compress"
	"splitbench/results"
)

// coder is an entropy coder of byte symbols. What encode and decode return
// lives in the coder's memory until the next call of the same function.
type coder struct {
	name   string
	encode func(symbols []byte) (message [][]byte, err error)
	decode func(message [][]byte, n int) (symbols []byte, err error)
}

// rivals are the coders of other projects, by the name that users give.
var rivals = []struct {
	name string
	make func() (*coder, error)
}{
	{"zstd", newZstd}, {"huff0", newHuff0}, {"fse", newFSE},
}

// Rivals lists the entropy coders that Codec can compare with.
func Rivals() (names []string) {
	for _, r := range rivals {
		names = append(names, r.name)
	}
	return names
}

// rivalBlock is about the size of a block of huff0 in bytes: that of zstd, for
// which it was made. It codes at most twice as many at once.
const rivalBlock = 128 << 10

// rivalPart is the size of the equal blocks of n symbols: no small rest, which
// huff0 would refuse.
func rivalPart(n int) int {
	blocks := max(1, (n+rivalBlock/2)/rivalBlock)
	return (n + blocks - 1) / blocks
}

// errNotCoded says that a coder leaves the symbols as they are.
var errNotCoded = errors.New("the coder finds the symbols incompressible")

func newHuff0() (*coder, error) {
	var scratch []*huff0.Scratch // of the encoder, one per block: each holds its output
	var table *huff0.Scratch
	var blocks [][]byte
	var out []byte
	return &coder{
		name: "huff0",
		encode: func(symbols []byte) ([][]byte, error) {
			blocks = blocks[:0]
			for part := range slices.Chunk(symbols, rivalPart(len(symbols))) {
				if len(blocks) == len(scratch) {
					scratch = append(scratch, &huff0.Scratch{Reuse: huff0.ReusePolicyNone})
				}
				b, _, err := huff0.Compress4X(part, scratch[len(blocks)])
				if errors.Is(err, huff0.ErrIncompressible) || errors.Is(err, huff0.ErrUseRLE) {
					err = errNotCoded
				}
				if err != nil {
					return nil, err
				}
				blocks = append(blocks, b)
			}
			return blocks, nil
		},
		decode: func(message [][]byte, n int) ([]byte, error) {
			out = slices.Grow(out[:0], n)[:0]
			for _, b := range message {
				s, rest, err := huff0.ReadTable(b, table)
				if err != nil {
					return nil, err
				}
				table = s
				at, size := len(out), min(rivalPart(n), n-len(out))
				if _, err := s.Decoder().Decompress4X(out[at:at:at+size], rest); err != nil {
					return nil, err
				}
				out = out[:at+size]
			}
			return out, nil
		},
	}, nil
}

func newFSE() (*coder, error) {
	var enc, dec fse.Scratch
	var message [1][]byte
	return &coder{
		name: "fse",
		encode: func(symbols []byte) ([][]byte, error) {
			b, err := fse.Compress(symbols, &enc)
			if errors.Is(err, fse.ErrIncompressible) || errors.Is(err, fse.ErrUseRLE) {
				err = errNotCoded
			}
			message[0] = b
			return message[:], err
		},
		decode: func(message [][]byte, _ int) ([]byte, error) { return fse.Decompress(message[0], &dec) },
	}, nil
}

func newZstd() (*coder, error) {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, err
	}
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	var message [1][]byte
	var out []byte
	return &coder{
		name: "zstd",
		encode: func(symbols []byte) ([][]byte, error) {
			message[0] = w.EncodeAll(symbols, message[0][:0])
			return message[:], nil
		},
		decode: func(message [][]byte, _ int) ([]byte, error) {
			var err error
			out, err = r.DecodeAll(message[0], out[:0])
			return out, err
		},
	}, nil
}

// stream is a sequence of symbols to code.
type stream struct {
	name    string
	symbols []byte
}

// streamSymbols is the length of the long streams.
const streamSymbols = 512 << 10

// tokenSymbols is the length of the short ones: the codes of one token.
const tokenSymbols = 4096

// gaussianStream returns n symbols 0..alphabet-1, rounded from a normal
// distribution around the middle one, as the signed codes of a token are
// distributed.
func gaussianStream(n, alphabet int, sigma float64, seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 6))
	out := make([]byte, n)
	middle := float64(alphabet-1) / 2
	for i := range out {
		out[i] = byte(math.Round(min(max(middle+sigma*rng.NormFloat64(), 0), float64(alphabet-1))))
	}
	return out
}

// codeStreams returns the codes of the rows of a as symbols, as many as a long
// stream has, and those of the first row alone; none when the codes need more
// than 32 symbols.
func codeStreams(a *Activations, o compress.Options, symbols int) ([]stream, error) {
	rows := a.Rows
	if n := max(1, (symbols+rows.Cols-1)/rows.Cols); rows.Rows > n {
		rows = compress.Matrix{Rows: n, Cols: rows.Cols, Data: rows.Data[:n*rows.Cols]}
	}
	q, err := compress.Quantise(rows, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Name, err)
	}
	offset := int16(1)<<(o.MaxActivationBits-1) - 1
	if offset > 15 {
		return nil, nil
	}
	all := make([]byte, len(q.Codes))
	for i, c := range q.Codes {
		all[i] = byte(c + offset)
	}
	long := all[:min(symbols, len(all))]
	name := fmt.Sprintf("%s, tau %g, Qa %d", a.Name, o.Threshold, o.MaxActivationBits)
	list := []stream{{name, long}}
	if rows.Rows > 1 {
		list = append(list, stream{name + ", one token", all[:rows.Cols]})
	}
	return list, nil
}

// entropyBytes is the order-0 entropy of symbols, in bytes: what an ideal coder
// needs that knows their frequencies for nothing.
func entropyBytes[T byte | int16](symbols []T) float64 {
	counts := map[T]int{}
	for _, s := range symbols {
		counts[s]++
	}
	list := make([]int, 0, len(counts))
	for _, c := range counts {
		list = append(list, c)
	}
	slices.Sort(list) // one order of the additions
	bits, n := 0.0, float64(len(symbols))
	for _, c := range list {
		bits += float64(c) * math.Log2(n/float64(c))
	}
	return bits / 8
}

// measureCoders measures every coder on every stream.
func (r *Report) measureCoders(ctx context.Context, coders []*coder, streams []stream, against string, t Timing) error {
	table := results.Table{
		Name:  "coders",
		Title: fmt.Sprintf("Entropy coders on symbol streams, one byte per symbol, one thread. Medians of %d interleaved rounds with the best and quartiles; x %s is the median of the rounds' ratios.", t.Rounds, against),
		Columns: append(plain("Stream", "Coder"),
			numeric("Symbols", 0), numeric("Bytes", 0), numeric("Over order-0 (%)", 2),
			numeric("Encode (MB/s)", 0), right("Best, quartiles"), numeric("Decode (MB/s)", 0), right("Best, quartiles"),
			numeric("Encode x "+against, 2), numeric("Decode x "+against, 2)),
	}
	for _, s := range streams {
		var list []Contestant
		sizes := map[string]int{}
		var order []*coder
		for _, c := range coders {
			message, err := c.encode(s.symbols)
			if errors.Is(err, errNotCoded) {
				r.Notes = append(r.Notes, fmt.Sprintf("%s leaves %s as it is (incompressible to it).", c.name, s.name))
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %s: %w", s.name, c.name, err)
			}
			kept := make([][]byte, len(message))
			for i, b := range message {
				kept[i] = bytes.Clone(b)
				sizes[c.name] += len(b)
			}
			back, err := c.decode(kept, len(s.symbols))
			if err == nil && !bytes.Equal(back, s.symbols) {
				err = errors.New("decoded to other symbols")
			}
			if err != nil {
				return fmt.Errorf("%s: %s: %w", s.name, c.name, err)
			}
			order = append(order, c)
			work := float64(len(s.symbols))
			list = append(list,
				Contestant{Name: c.name + " encode", Work: work, Run: func(n int) error {
					for range n {
						if _, err := c.encode(s.symbols); err != nil {
							return err
						}
					}
					return nil
				}},
				Contestant{Name: c.name + " decode", Work: work, Run: func(n int) error {
					for range n {
						if _, err := c.decode(kept, len(s.symbols)); err != nil {
							return err
						}
					}
					return nil
				}})
		}
		samples, err := Measure(ctx, list, t)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		ideal := entropyBytes(s.symbols)
		for _, c := range order {
			base := results.Measurement{Bench: "codec", Table: table.Name, Input: s.name, Subject: c.name, Threads: 1}
			over := 100 * (float64(sizes[c.name])/ideal - 1)
			r.add(base, "symbols", "symbols", float64(len(s.symbols)))
			r.add(base, "size", "bytes", float64(sizes[c.name]))
			r.add(base, "over_order0", "percent", over)
			row := []results.Value{text(s.name), text(c.name), integer(len(s.symbols)), integer(sizes[c.name]), number(over)}
			var ratios []results.Value
			for _, way := range []string{"encode", "decode"} {
				own := find(samples, c.name+" "+way)
				rate := own.Rate(1e-6)
				var ratio *Summary
				if rival := find(samples, against+" "+way); rival != nil && against != c.name {
					x := own.Ratio(rival)
					ratio = &x
					ratios = append(ratios, number(x.Median))
				} else {
					ratios = append(ratios, text(none))
				}
				r.addTimed(base, way, "MB/s", rate, against, ratio)
				row = append(row, number(rate.Median), spread(rate, 0))
			}
			table.Rows = append(table.Rows, append(row, ratios...))
		}
	}
	r.Tables = append(r.Tables, table)
	return nil
}

// openCoders returns our coder and the rivals of those names.
func openCoders(names []string) (list []*coder, err error) {
	list = append(list, ownCoder())
	for _, name := range names {
		i := slices.Index(Rivals(), name)
		if i < 0 {
			return nil, fmt.Errorf("rival %q, expected one of %s", name, strings.Join(Rivals(), ", "))
		}
		c, err := rivals[i].make()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		list = append(list, c)
	}
	return list, nil
}

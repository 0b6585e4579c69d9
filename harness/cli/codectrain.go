package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"splitbench/compress"
	"splitbench/models/checkpoint"
)

func newCodecTrain(s streams) *cobra.Command {
	o := compress.DefaultOptions()
	var out string
	var holdout float64
	var kv bool
	c := &cobra.Command{
		Use:   "train --out FILE.tables IN.safetensors[:TENSOR]...",
		Short: "Learn static tables of the codec split1 from stored activations",
		Long: `Learns the tables of one stream, such as the hidden state after one layer, from rows
like those that will be sent, quantised with the same options. TENSOR is a name or a
pattern of names with *, ? and [...]; a file with one tensor needs none. With --kv it
learns one file of tables for the keys and values of all layers, from the tensors
I.k.LAYER and I.v.LAYER that dump --kv all writes.

It prints what one token takes in a message of its own with these tables, with those
built in, and with the codecs packed and literal, on the training rows and, with
--holdout, on the last share of each tensor's rows, which are not learned from. rho
is the correlation of a row with the one before it, each scaled to a root mean square of 1; a coder that predicted rows from
the one before would save at most -log2(1-rho^2)/2 bits per value. What rho owes to
the channels' means, the tables have already.`,
		Example: `  splitbench dump --model DIR --ids tokens.jsonl --kv all --out dump.safetensors
  splitbench codec train --out layer3.tables --holdout 0.2 'dump.safetensors:*.hidden.3'
  splitbench codec train --kv --out kv.tables dump.safetensors`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := o.Validate(); err != nil {
				return usageError{err}
			}
			if !(holdout >= 0 && holdout < 1) {
				return usagef("--holdout %v, expected a share from 0 to below 1", holdout)
			}
			var b []byte
			var report string
			var err error
			if kv {
				b, report, err = trainKV(args, o, holdout)
			} else {
				b, report, err = trainRows(args, o, holdout)
			}
			if err != nil {
				return err
			}
			if err := s.writeOutput(out, func(w io.Writer) error {
				_, err := w.Write(b)
				return err
			}); err != nil {
				return err
			}
			if out == "-" {
				return nil // the report would mix with the file
			}
			_, err = io.WriteString(s.out, report)
			return err
		},
	}
	fl := c.Flags()
	fl.StringVar(&out, "out", "", "file of tables to write")
	fl.Float64Var(&holdout, "holdout", 0, "share of each tensor's rows, at its end, to measure on and not to learn from")
	fl.BoolVar(&kv, "kv", false, "learn tables for the keys and values of all layers of a dump")
	quantiserFlags(c, &o)
	cobra.CheckErr(c.MarkFlagRequired("out"))
	return c
}

// trainRows learns tables from the tensors that the arguments name and returns
// their file and what there is to say.
func trainRows(args []string, o compress.Options, holdout float64) ([]byte, string, error) {
	var all []compress.Matrix
	for _, a := range args {
		ms, err := matricesOf(a)
		if err != nil {
			return nil, "", err
		}
		for _, m := range ms {
			if m.Cols != ms[0].Cols || len(all) > 0 && m.Cols != all[0].Cols {
				return nil, "", fmt.Errorf("%s: rows of %d columns, expected %d as in the first tensor", a, m.Cols, slices.Concat(all, ms)[0].Cols)
			}
		}
		all = append(all, ms...)
	}
	set := splitSet(all, holdout)
	t, taken, err := set.learn(o)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", args[0], err)
	}
	b := t.Append(nil)
	var w strings.Builder
	fmt.Fprintf(&w, "rows      %d of %d columns from %d tensors", taken, t.Cols(), len(all))
	if held := rowsOf(set.held); held > 0 {
		fmt.Fprintf(&w, ", %d held out", held)
	}
	if more := rowsOf(set.train) - taken; more > 0 {
		fmt.Fprintf(&w, ", %d beyond what training keeps", more)
	}
	fmt.Fprintf(&w, "\ntables    %04x, %d bytes, for rows of %s magnitude bits, %d channels often above the threshold\n", t.ID(), len(b), numbers(t.TrainedBits()), len(t.Hot()))
	if err := set.report(&w, func(part []compress.Matrix) (line string, err error) {
		trained := o
		trained.Tables = t
		for _, c := range []struct {
			codec, name string
			o           compress.Options
		}{{split1Name, "", trained}, {split1Name, "built-in tables ", o}, {"packed", "packed ", o}, {"literal", "literal ", o}} {
			mean, err := bytesPerToken(c.codec, c.o, part)
			if err != nil {
				return "", err
			}
			if line += fmt.Sprintf("%s%.1f, ", c.name, mean); c.name == "" {
				line = fmt.Sprintf("%.1f bytes/token; ", mean)
			}
		}
		return strings.TrimSuffix(line, ", "), nil
	}); err != nil {
		return nil, "", err
	}
	w.WriteString(rhoLine("rho", set.train))
	return b, w.String(), nil
}

// trainKV learns the tables of keys and values from whole dumps.
func trainKV(args []string, o compress.Options, holdout float64) ([]byte, string, error) {
	var all []compress.KV
	for _, a := range args {
		got, err := readKV(a)
		if err != nil {
			return nil, "", err
		}
		if len(got) == 0 {
			return nil, "", fmt.Errorf("%s holds no keys and values (tensors 0.k.0 and 0.v.0), written by dump --kv all", a)
		}
		for _, i := range slices.Sorted(maps.Keys(got)) {
			kv := got[i]
			if len(all) > 0 && (len(kv.Keys) != len(all[0].Keys) || kv.Keys[0].Cols != all[0].Keys[0].Cols) {
				return nil, "", fmt.Errorf("%s: sequence %d has keys of %d layers and %d columns, expected %d and %d as in the first", a, i, len(kv.Keys), kv.Keys[0].Cols, len(all[0].Keys), all[0].Keys[0].Cols)
			}
			all = append(all, kv)
		}
	}
	tables := new(compress.KVTables)
	rho := ""
	rows, held := 0, 0
	for layer := range all[0].Keys {
		for _, part := range []struct {
			name string
			of   func(kv *compress.KV) compress.Matrix
			to   *[]*compress.Tables
		}{
			{"k", func(kv *compress.KV) compress.Matrix { return kv.Keys[layer] }, &tables.Keys},
			{"v", func(kv *compress.KV) compress.Matrix { return kv.Values[layer] }, &tables.Values},
		} {
			var ms []compress.Matrix
			for i := range all {
				ms = append(ms, part.of(&all[i]))
			}
			set := splitSet(ms, holdout)
			t, taken, err := set.learn(o)
			if err != nil {
				return nil, "", fmt.Errorf("%s: %s.%d: %w", args[0], part.name, layer, err)
			}
			*part.to = append(*part.to, t)
			rows, held = taken, rowsOf(set.held)
			rho += rhoLine(fmt.Sprintf("rho %s.%d", part.name, layer), set.train)
		}
	}
	b := tables.Append(nil)
	var w strings.Builder
	fmt.Fprintf(&w, "rows      %d of %d columns from %d sequences", rows, tables.Cols(), len(all))
	if held > 0 {
		fmt.Fprintf(&w, ", %d held out", held)
	}
	fmt.Fprintf(&w, "\ntables    %04x for keys and values, %d layers, %d bytes\n", tables.ID(), tables.Layers(), len(b))
	line := func(name string, held bool) error {
		sizes := ""
		for _, c := range []struct {
			name string
			t    *compress.KVTables
		}{{"", tables}, {"built-in tables ", nil}} {
			codec, err := compress.NewKVCodec(o, c.t)
			if err != nil {
				return err
			}
			whole, single, tokens := 0, 0, 0
			for _, kv := range all {
				n := heldRows(kv.Keys[0].Rows, holdout)
				from, to := 0, kv.Keys[0].Rows-n
				if held {
					from, to = to, kv.Keys[0].Rows
				}
				piece := compress.KV{Position: from}
				for i := range kv.Keys {
					piece.Keys, piece.Values = append(piece.Keys, rowsFrom(kv.Keys[i], from, to)), append(piece.Values, rowsFrom(kv.Values[i], from, to))
				}
				if piece.Keys[0].Rows == 0 {
					continue
				}
				_, p, err := codec.Encode(nil, piece)
				if err != nil {
					return err
				}
				whole += p.Total()
				for _, one := range tokensOf(piece) {
					if _, p, err = codec.Encode(nil, one); err != nil {
						return err
					}
					single += p.Total()
					tokens++
				}
			}
			if tokens == 0 {
				return nil
			}
			sizes += fmt.Sprintf("%s%.1f bytes/token in one message of a sequence, %.1f in one of a token; ", c.name, float64(whole)/float64(tokens), float64(single)/float64(tokens))
		}
		fmt.Fprintf(&w, "%-9s %s\n", name, strings.TrimSuffix(sizes, "; "))
		return nil
	}
	if err := errors.Join(line("training", false), line("held out", true)); err != nil {
		return nil, "", err
	}
	w.WriteString(rho)
	return b, w.String(), nil
}

// trainingSet is rows to learn from and rows to measure on, cut from the same
// tensors.
type trainingSet struct{ train, held []compress.Matrix }

// heldRows returns how many of n rows are held out.
func heldRows(n int, share float64) int { return int(share * float64(n)) }

func rowsFrom(m compress.Matrix, from, to int) compress.Matrix {
	return compress.Matrix{Rows: to - from, Cols: m.Cols, Data: m.Data[from*m.Cols : to*m.Cols]}
}

func rowsOf(ms []compress.Matrix) int {
	n := 0
	for _, m := range ms {
		n += m.Rows
	}
	return n
}

func splitSet(all []compress.Matrix, holdout float64) (s trainingSet) {
	for _, m := range all {
		n := m.Rows - heldRows(m.Rows, holdout)
		s.train = append(s.train, rowsFrom(m, 0, n))
		s.held = append(s.held, rowsFrom(m, n, m.Rows))
	}
	return s
}

// learn returns the tables of the training rows and how many rows were taken.
func (s *trainingSet) learn(o compress.Options) (*compress.Tables, int, error) {
	trainer, err := compress.NewTrainer(s.train[0].Cols, o)
	if err != nil {
		return nil, 0, err
	}
	for _, m := range s.train {
		if err := trainer.Add(m); err != nil {
			return nil, 0, err
		}
	}
	t, err := trainer.Tables()
	return t, trainer.Rows(), err
}

// report writes a line for the training rows and one for those held out.
func (s *trainingSet) report(w io.Writer, measure func([]compress.Matrix) (string, error)) error {
	for _, part := range []struct {
		name string
		rows []compress.Matrix
	}{{"training", s.train}, {"held out", s.held}} {
		if rowsOf(part.rows) == 0 {
			continue
		}
		line, err := measure(part.rows)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%-9s %s\n", part.name, line)
	}
	return nil
}

// measuredRows bounds the rows on which sizes are measured: of more, every k-th.
const measuredRows = 8192

// bytesPerToken returns the mean length of one-token messages.
func bytesPerToken(codec string, o compress.Options, ms []compress.Matrix) (float64, error) {
	c, err := compress.NewCodec(codec, o)
	if err != nil {
		return 0, err
	}
	step := (rowsOf(ms) + measuredRows - 1) / measuredRows
	total, n, at := 0, 0, 0
	var msg []byte
	for _, m := range ms {
		for r := range m.Rows {
			if at++; (at-1)%step != 0 {
				continue
			}
			if msg, _, err = c.Encode(msg[:0], rowsFrom(m, r, r+1)); err != nil {
				return 0, err
			}
			total += len(msg)
			n++
		}
	}
	return float64(total) / float64(n), nil
}

// rhoLine writes the correlation of consecutive rows and what predicting rows
// from the one before could save.
func rhoLine(name string, ms []compress.Matrix) string {
	raw, centred := lagCorrelation(ms)
	return fmt.Sprintf("%-9s %.2f between consecutive tokens, %.2f without the channels' means: prediction would save at most %.3f bits per value\n",
		name, raw, centred, max(0, -math.Log2(1-min(centred*centred, 1-1e-12))/2))
}

// lagCorrelation returns the correlation about zero of each row with the one
// before it, all channels together, for rows scaled to a root mean square of 1,
// and the same with every channel's mean taken away. Values that are not finite
// count as zero; without two consecutive rows both are 0.
func lagCorrelation(ms []compress.Matrix) (raw, centred float64) {
	if len(ms) == 0 {
		return 0, 0
	}
	cols, rows := ms[0].Cols, float64(rowsOf(ms))
	scaled := func(dst []float64, row []float32) {
		sum := 0.0
		for j, v := range row {
			f := float64(v)
			if math.IsNaN(f) || math.IsInf(f, 0) {
				f = 0
			}
			dst[j] = f
			sum += f * f
		}
		if sum > 0 {
			scale := math.Sqrt(float64(cols) / sum)
			for j := range dst {
				dst[j] *= scale
			}
		}
	}
	row, before, mean := make([]float64, cols), make([]float64, cols), make([]float64, cols)
	for _, m := range ms {
		for r := range m.Rows {
			scaled(row, m.Row(r))
			for j, v := range row {
				mean[j] += v / rows
			}
		}
	}
	correlation := func(mean []float64) float64 {
		var product, now, then float64
		for _, m := range ms {
			for r := range m.Rows {
				scaled(row, m.Row(r))
				for j := range row {
					row[j] -= mean[j]
				}
				if r > 0 {
					for j, v := range row {
						product += v * before[j]
						now += v * v
						then += before[j] * before[j]
					}
				}
				row, before = before, row
			}
		}
		if now*then == 0 {
			return 0
		}
		return product / math.Sqrt(now*then)
	}
	return correlation(make([]float64, cols)), correlation(mean)
}

// matricesOf reads the tensors that an argument FILE or FILE:PATTERN names, in
// the order of the file.
func matricesOf(arg string) ([]compress.Matrix, error) {
	file, pattern := arg, ""
	if i := strings.LastIndexByte(arg, ':'); i > 0 {
		if _, err := os.Stat(arg); errors.Is(err, fs.ErrNotExist) {
			file, pattern = arg[:i], arg[i+1:]
		}
	}
	if pattern == "" {
		if file != arg {
			return nil, usagef("%s: no tensor behind the colon, expected FILE.safetensors:TENSOR", arg)
		}
		f, err := checkpoint.OpenSafetensors(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if n := len(f.Names()); n != 1 {
			return nil, usagef("%s holds %d tensors, choose some with %s:TENSOR or a pattern such as '%s:*.hidden.3'", file, n, file, file)
		}
		m, err := matrixOf(file, f, f.Names()[0])
		return []compress.Matrix{m}, err
	}
	f, err := checkpoint.OpenSafetensors(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []compress.Matrix
	for _, name := range f.Names() {
		ok, err := path.Match(pattern, name)
		if err != nil {
			return nil, usagef("%s: %q is no pattern: %w", file, pattern, err)
		}
		if !ok && name != pattern {
			continue
		}
		m, err := matrixOf(file, f, name)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	if len(out) == 0 {
		return nil, usagef("%s: no tensor %q, expected one of %s", file, pattern, some(f.Names()))
	}
	return out, nil
}

var kvName = regexp.MustCompile(`^(0|[1-9][0-9]{0,8})\.([kv])\.(0|[1-9][0-9]{0,8})$`)

// readKV reads the keys and values of a dump by sequence: of each sequence those
// of layers 0, 1, ... without a gap.
func readKV(path string) (map[int]compress.KV, error) {
	f, err := checkpoint.OpenSafetensors(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	layers := map[int]int{} // one more than the last layer of a sequence
	for _, name := range f.Names() {
		if m := kvName.FindStringSubmatch(name); m != nil {
			sequence, _ := strconv.Atoi(m[1])
			layer, _ := strconv.Atoi(m[3])
			layers[sequence] = max(layers[sequence], layer+1)
		}
	}
	out := map[int]compress.KV{}
	for _, sequence := range slices.Sorted(maps.Keys(layers)) {
		var kv compress.KV
		for layer := range layers[sequence] {
			for _, part := range []struct {
				name string
				to   *[]compress.Matrix
			}{{"k", &kv.Keys}, {"v", &kv.Values}} {
				name := fmt.Sprintf("%d.%s.%d", sequence, part.name, layer)
				m, err := tokenMatrix(path, f, name)
				if err != nil {
					return nil, err
				}
				if first := slices.Concat(kv.Keys, []compress.Matrix{m})[0]; m.Rows != first.Rows || m.Cols != first.Cols {
					return nil, fmt.Errorf("%s: tensor %s has %d tokens of %d values, expected %d of %d as %d.k.0", path, name, m.Rows, m.Cols, first.Rows, first.Cols, sequence)
				}
				*part.to = append(*part.to, m)
			}
		}
		out[sequence] = kv
	}
	return out, nil
}

// tokenMatrix reads a tensor (heads, tokens, head dimension) as a matrix with a
// row for each token.
func tokenMatrix(path string, f *checkpoint.File, name string) (compress.Matrix, error) {
	t, ok := f.Tensor(name)
	if !ok {
		return compress.Matrix{}, fmt.Errorf("%s: no tensor %s, expected keys and values of all layers up to the last (dump --kv all)", path, name)
	}
	if len(t.Shape) != 3 {
		return compress.Matrix{}, fmt.Errorf("%s: tensor %s has shape %v, expected (heads, tokens, head dimension)", path, name, t.Shape)
	}
	m, err := matrixOf(path, f, name)
	if err != nil {
		return m, err
	}
	heads, tokens, dim := t.Shape[0], t.Shape[1], t.Shape[2]
	out := compress.Matrix{Rows: tokens, Cols: heads * dim, Data: make([]float32, len(m.Data))}
	for h := range heads {
		for r := range tokens {
			copy(out.Data[(r*heads+h)*dim:], m.Row(h*tokens+r))
		}
	}
	return out, nil
}

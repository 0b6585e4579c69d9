package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"splitbench/compress"
	"splitbench/experiments/spec"
	"splitbench/harness/exec"
	"splitbench/models/checkpoint"
)

func newCodec(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "codec VERB",
		Short: "Encode, decode and inspect boundary messages, train tables",
		Example: `  splitbench codec encode --tau 5 --max-activation-bits 4 hidden.safetensors hidden.msg
  splitbench codec inspect hidden.msg
  splitbench codec decode hidden.msg restored.safetensors
  splitbench codec train --out layer3.tables --holdout 0.2 'dump.safetensors:*.hidden.3'`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newCodecEncode(s), newCodecDecode(s), newCodecInspect(s), newCodecTrain(s))
	return c
}

// tauFlag is the value of --tau: a number, quantile:SHARE or rms:MULTIPLE.
type tauFlag struct{ o *compress.Options }

func (f tauFlag) String() string {
	if f.o == nil {
		return ""
	}
	v := strconv.FormatFloat(f.o.Threshold, 'g', -1, 64)
	if f.o.ThresholdBy == spec.TauValue {
		return v
	}
	return f.o.ThresholdBy + ":" + v
}

func (f tauFlag) Set(text string) error {
	by, number, ok := strings.Cut(text, ":")
	if !ok {
		by, number = spec.TauValue, text
	} else if by != spec.TauQuantile && by != spec.TauRMS {
		return fmt.Errorf("unit %q, expected a number, quantile:SHARE or rms:MULTIPLE", by)
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return fmt.Errorf("%q is not a number, expected a number, quantile:SHARE or rms:MULTIPLE", number)
	}
	f.o.Threshold, f.o.ThresholdBy = v, by
	return nil
}

func (tauFlag) Type() string { return "tau" }

// quantiserFlags are the readings of the quantiser.
func quantiserFlags(c *cobra.Command, o *compress.Options) {
	fl := c.Flags()
	fl.Var(tauFlag{o}, "tau", "threshold tau: magnitudes from it on travel exactly; quantile:0.999 keeps that share of each row below it, rms:3 takes three times the row's root mean square")
	fl.IntVar(&o.MaxActivationBits, "max-activation-bits", o.MaxActivationBits, "largest width Qa-bar in bits, sign included")
	fl.Float64Var(&o.Delta, "delta", o.Delta, "distortion tolerance Delta of TAB-Q")
	fl.StringVar(&o.Search, "search", o.Search, "width search: tabq or fixed")
	fl.StringVar(&o.StopRule, "stop-rule", o.StopRule, "width returned: last_ok or first_exceed")
	fl.StringVar(&o.Comparison, "comparison", o.Comparison, "codes compared after floor or round")
	fl.IntVar(&o.LowerBound, "lower-bound", o.LowerBound, "smallest width tried, in magnitude bits")
	fl.StringVar(&o.Granularity, "granularity", o.Granularity, "one width per_token or per_tensor")
	fl.StringVar(&o.AboveType, "above-type", o.AboveType, "type of exact values: exact, float16, bfloat16 or float32")
	fl.StringVar(&o.SparseIndex, "sparse-index", o.SparseIndex, "literal, packed: index widths of the sparse part, compact or torch")
	fl.StringVar(&o.ScaleType, "scale-type", o.ScaleType, "type of scales: float16 or float32")
	fl.IntVar(&o.Lanes, "lanes", o.Lanes, "split1: interleaved states of the coder, 1, 2, 4, ..., 64 or 96; 0 chooses by size")
}

// split1Name is the codec that has tables, lanes and a choice of what it restores.
const split1Name = "split1"

func newCodecEncode(s streams) *cobra.Command {
	o := compress.DefaultOptions()
	var codec, tensor, tables string
	var perRow bool
	var kv int
	c := &cobra.Command{
		Use:   "encode IN.safetensors OUT.msg",
		Short: "Encode the rows of a tensor",
		Long: `Writes one message that holds all rows of the tensor (its last dimension is the
row), or with --per-row a concatenation of one-token messages. With --kv N the keys
and values of sequence N of a dump, N.k.LAYER and N.v.LAYER, become one message of
the codec split1, or one per token with --per-row.`,
		Example: `  splitbench codec encode --tau 5 --max-activation-bits 4 --tensor 0.hidden.3 hidden.safetensors hidden.msg
  splitbench codec encode --codec split1 --tables layer3.tables --per-row --tensor 0.hidden.3 hidden.safetensors tokens.msg
  splitbench codec encode --codec split1 --tau quantile:0.999 --tensor 0.hidden.3 hidden.safetensors hidden.msg
  splitbench codec encode --codec split1 --kv 0 --tables kv.tables hidden.safetensors kv.msg`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if codec != split1Name {
				for _, name := range []string{"tables", "lanes", "restore", "kv"} {
					if cmd.Flags().Changed(name) {
						return usagef("--%s has no meaning for codec %s, expected it with --codec %s", name, codec, split1Name)
					}
				}
			}
			if o.Restore == "centroid" && tables == "" {
				return usagef("--restore centroid needs --tables, which hold the centroids")
			}
			if codec == split1Name && cmd.Flags().Changed("sparse-index") {
				return usagef("--sparse-index has no meaning for codec %s, expected it with --codec literal or packed", codec)
			}
			sendsKV := cmd.Flags().Changed("kv")
			if err := o.Validate(); err != nil {
				return usageError{err}
			}
			t, err := openTables(tables)
			if err != nil {
				return err
			}
			var msg []byte
			if sendsKV {
				if err := t.only(true); err != nil {
					return err
				}
				msg, err = encodeKV(args[0], kv, o, t.kv, perRow)
			} else {
				if err := t.only(false); err != nil {
					return err
				}
				o.Tables = t.hidden
				msg, err = encodeRows(args[0], tensor, codec, o, perRow)
			}
			if err != nil {
				return err
			}
			return s.writeOutput(args[1], func(w io.Writer) error {
				_, err := w.Write(msg)
				return err
			})
		},
	}
	fl := c.Flags()
	fl.StringVar(&codec, "codec", "literal", "codec: "+strings.Join(compress.CodecNames(), ", "))
	fl.StringVar(&tensor, "tensor", "", "tensor to encode, when the file holds several")
	fl.BoolVar(&perRow, "per-row", false, "one message per row")
	fl.IntVar(&kv, "kv", 0, "split1: encode the keys and values of this sequence of a dump")
	quantiserFlags(c, &o)
	fl.StringVar(&o.Restore, "restore", o.Restore, "split1: a code stands for the center of its bin, or for the centroid in the tables")
	fl.StringVar(&tables, "tables", "", "split1: file of tables made by codec train (default: those built in)")
	c.MarkFlagsMutuallyExclusive("kv", "tensor")
	return c
}

// encodeRows returns the messages of one tensor's rows.
func encodeRows(path, tensor, codec string, o compress.Options, perRow bool) (msg []byte, err error) {
	k, err := compress.NewCodec(codec, o)
	if err != nil {
		return nil, usageError{err}
	}
	m, err := readMatrix(path, tensor)
	if err != nil {
		return nil, err
	}
	if !perRow {
		if msg, _, err = k.Encode(nil, m); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return msg, nil
	}
	if m.Rows == 0 {
		return nil, fmt.Errorf("%s: the tensor has no rows, --per-row would write an empty file", path)
	}
	for r := 0; r < m.Rows; r++ {
		if msg, _, err = k.Encode(msg, compress.Matrix{Rows: 1, Cols: m.Cols, Data: m.Row(r)}); err != nil {
			return nil, fmt.Errorf("%s: row %d: %w", path, r, err)
		}
	}
	return msg, nil
}

// encodeKV returns the messages of one sequence's keys and values.
func encodeKV(path string, sequence int, o compress.Options, t *compress.KVTables, perRow bool) ([]byte, error) {
	k, err := compress.NewKVCodec(o, t)
	if err != nil {
		return nil, usageError{err}
	}
	all, err := readKV(path)
	if err != nil {
		return nil, err
	}
	kv, ok := all[sequence]
	if !ok {
		return nil, usagef("%[1]s holds no keys and values of sequence %[2]d (tensors %[2]d.k.0 and %[2]d.v.0), written by dump --kv all", path, sequence)
	}
	pieces := []compress.KV{kv}
	if perRow {
		pieces = tokensOf(kv)
	}
	var msg []byte
	for _, piece := range pieces {
		if msg, _, err = k.Encode(msg, piece); err != nil {
			return nil, fmt.Errorf("%s: sequence %d, token %d: %w", path, sequence, piece.Position, err)
		}
	}
	return msg, nil
}

// tokensOf cuts keys and values into pieces of one token.
func tokensOf(kv compress.KV) []compress.KV {
	var out []compress.KV
	for r := range kv.Keys[0].Rows {
		one := compress.KV{Position: kv.Position + r}
		for i := range kv.Keys {
			one.Keys = append(one.Keys, compress.Matrix{Rows: 1, Cols: kv.Keys[i].Cols, Data: kv.Keys[i].Row(r)})
			one.Values = append(one.Values, compress.Matrix{Rows: 1, Cols: kv.Values[i].Cols, Data: kv.Values[i].Row(r)})
		}
		out = append(out, one)
	}
	return out
}

// tablesFile is a file of tables of either kind, or none.
type tablesFile struct {
	path   string
	size   int
	hidden *compress.Tables
	kv     *compress.KVTables
}

// openTables reads a file made by codec train; no path is no file.
func openTables(path string) (t tablesFile, err error) {
	if path == "" {
		return t, nil
	}
	b, err := exec.ReadBounded(path, exec.MaxTables)
	if err != nil {
		return t, fmt.Errorf("%s: %w", path, err)
	}
	if t, err = parseTables(b); err != nil {
		return t, fmt.Errorf("%s: %w", path, err)
	}
	t.path = path
	return t, nil
}

// isTables says whether bytes begin like a file of tables.
func isTables(b []byte) bool {
	return len(b) >= 3 && b[0] == 'S' && b[1] == 'B' && (b[2] == 'T' || b[2] == 'K')
}

func parseTables(b []byte) (t tablesFile, err error) {
	t.size = len(b)
	if len(b) >= 3 && string(b[:3]) == "SBK" {
		t.kv, err = compress.ParseKVTables(b)
	} else {
		t.hidden, err = compress.ParseTables(b)
	}
	return t, err
}

// only asks for tables of one kind.
func (t *tablesFile) only(kv bool) error {
	switch {
	case kv && t.hidden != nil:
		return usagef("%s: tables of one tensor, expected those of keys and values (codec train --kv)", t.path)
	case !kv && t.kv != nil:
		return usagef("%s: tables of keys and values, expected those of one tensor (codec train without --kv)", t.path)
	}
	return nil
}

// readMatrix reads one tensor as a matrix whose rows are the last dimension.
func readMatrix(path, name string) (compress.Matrix, error) {
	f, err := checkpoint.OpenSafetensors(path)
	if err != nil {
		return compress.Matrix{}, err
	}
	defer f.Close()
	names := f.Names()
	if name == "" {
		if len(names) == 0 {
			return compress.Matrix{}, fmt.Errorf("%s holds no tensors", path)
		}
		if len(names) != 1 {
			return compress.Matrix{}, usagef("%s holds %d tensors, choose one with --tensor", path, len(names))
		}
		name = names[0]
	}
	if !slices.Contains(names, name) {
		return compress.Matrix{}, usagef("%s: no tensor %q, expected one of %s", path, name, some(names))
	}
	return matrixOf(path, f, name)
}

// matrixOf reads the tensor of a file as a matrix whose rows are the last
// dimension.
func matrixOf(path string, f *checkpoint.File, name string) (compress.Matrix, error) {
	t, _ := f.Tensor(name)
	if !t.DType.IsFloat() {
		return compress.Matrix{}, fmt.Errorf("%s: tensor %s: dtype %s, expected a float type", path, name, t.DType)
	}
	v, err := t.Float32Unchecked(nil)
	if err != nil {
		return compress.Matrix{}, err
	}
	rows, cols := t.Matrix()
	return compress.Matrix{Rows: rows, Cols: cols, Data: v}, nil
}

// some joins at most ten names.
func some(names []string) string {
	if len(names) > 10 {
		return strings.Join(names[:10], ", ") + ", ..."
	}
	return strings.Join(names, ", ")
}

// messages calls each for every message of a file.
func messages(path string, each func(i int, msg []byte) error) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return fmt.Errorf("%s: the file is empty, expected at least one message", path)
	}
	for i := 0; len(data) > 0; i++ {
		msg, rest, err := compress.Frame(data)
		if err == nil {
			err = each(i, msg)
		}
		if err != nil {
			return fmt.Errorf("%s: message %d: %w", path, i, err)
		}
		data = rest
	}
	return nil
}

func newCodecDecode(s streams) *cobra.Command {
	var tables string
	c := &cobra.Command{
		Use:   "decode IN.msg OUT.safetensors",
		Short: "Restore the tensor of a message",
		Long: `Writes the F32 tensor ` + "`restored`" + ` (rows, columns). Concatenated messages give their rows
one after the other. Messages of keys and values give k.LAYER and v.LAYER.`,
		Example: `  splitbench codec decode hidden.msg restored.safetensors
  splitbench codec decode --tables layer3.tables tokens.msg restored.safetensors`,
		Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := openTables(tables)
			if err != nil {
				return err
			}
			d, err := newDecoder(t)
			if err != nil {
				return err
			}
			if err := messages(args[0], d.add); err != nil {
				return err
			}
			return s.writeOutput(args[1], func(w io.Writer) error {
				return checkpoint.WriteSafetensors(w, d.tensors(), nil)
			})
		},
	}
	c.Flags().StringVar(&tables, "tables", "", "split1: file of tables that the messages were made with")
	return c
}

// decoder collects what messages restore.
type decoder struct {
	split1   compress.Codec
	kv       *compress.KVCodec
	given    tablesFile
	restored []restored // one, or keys and values of each layer
	values   int
}

// restored is one tensor.
type restored struct {
	name       string
	rows, cols int
	data       []float32
}

func newDecoder(t tablesFile) (*decoder, error) {
	o := compress.DefaultOptions()
	o.Tables = t.hidden
	c, err := compress.NewCodec(split1Name, o)
	if err != nil {
		return nil, err
	}
	kv, err := compress.NewKVCodec(o, t.kv)
	if err != nil {
		return nil, err
	}
	return &decoder{split1: c, kv: kv, given: t}, nil
}

// add restores message i.
func (d *decoder) add(i int, msg []byte) error {
	if compress.IsKV(msg) {
		if err := d.given.only(true); err != nil {
			return err
		}
		kv, err := d.kv.Decode(msg)
		if err != nil {
			return err
		}
		var names []string
		var all []compress.Matrix
		for layer := range kv.Keys {
			names = append(names, fmt.Sprintf("k.%d", layer), fmt.Sprintf("v.%d", layer))
			all = append(all, kv.Keys[layer], kv.Values[layer])
		}
		return d.join(i, names, all)
	}
	// Bytes that begin no split1 message are told as what they are.
	info, err := compress.Inspect(msg)
	if err != nil {
		return err
	}
	if info.Codec == split1Name {
		err = d.given.only(false)
	}
	if err != nil {
		return err
	}
	var m compress.Matrix
	if info.Codec == split1Name {
		m, err = d.split1.Decode(nil, msg)
	} else {
		m, err = compress.Decode(nil, msg)
	}
	if err != nil {
		return err
	}
	return d.join(i, []string{"restored"}, []compress.Matrix{m})
}

// join puts the rows of message i behind those of the messages before.
func (d *decoder) join(i int, names []string, all []compress.Matrix) error {
	if i == 0 {
		for k, name := range names {
			d.restored = append(d.restored, restored{name: name, cols: all[k].Cols})
		}
	}
	if len(all) != len(d.restored) {
		return fmt.Errorf("%d tensors, expected %d as in the first message", len(all), len(d.restored))
	}
	for k, m := range all {
		to := &d.restored[k]
		if names[k] != to.name {
			return fmt.Errorf("tensor %s, expected %s as in the first message", names[k], to.name)
		}
		if m.Cols != to.cols {
			return fmt.Errorf("%d columns, expected %d as in the first message", m.Cols, to.cols)
		}
		if d.values += len(m.Data); d.values > compress.MaxValues {
			return fmt.Errorf("the messages hold more than %d values, the most that one file may restore to", compress.MaxValues)
		}
		to.rows += m.Rows
		to.data = append(to.data, m.Data...)
	}
	return nil
}

func (d *decoder) tensors() []checkpoint.NamedTensor {
	var out []checkpoint.NamedTensor
	for _, r := range d.restored {
		out = append(out, checkpoint.NamedTensor{Name: r.name, Shape: []int{r.rows, r.cols}, Data: r.data})
	}
	return out
}

func newCodecInspect(s streams) *cobra.Command {
	var asJSON bool
	var tables string
	c := &cobra.Command{
		Use:   "inspect IN.msg|IN.tables",
		Short: "Show the parts and bytes of messages, or what tables are for",
		Long: `With --json one object per message and line, else a table with the sum over the file's
messages. Of messages made with trained tables, --tables shows all parts.`,
		Example: `  splitbench codec inspect hidden.msg
  splitbench codec inspect --tables layer3.tables tokens.msg
  splitbench codec inspect layer3.tables`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if b, err := peek(args[0], 3); err == nil && isTables(b) {
				if tables != "" {
					return usagef("%s holds tables, expected --tables beside messages alone", args[0])
				}
				t, err := openTables(args[0])
				if err != nil {
					return err
				}
				return t.describe(s.out, asJSON)
			}
			t, err := openTables(tables)
			if err == nil {
				err = t.only(false)
			}
			if err != nil {
				return err
			}
			return inspectMessages(s, args[0], t.hidden, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON lines")
	c.Flags().StringVar(&tables, "tables", "", "split1: file of tables that the messages were made with")
	return c
}

// peek returns the first n bytes of a file.
func peek(path string, n int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, n)
	_, err = io.ReadFull(f, b)
	return b, err
}

// inspectMessages describes the messages of a file, which in the table are all of
// one codec.
func inspectMessages(s streams, path string, t *compress.Tables, asJSON bool) error {
	p := newPrinter(s.out)
	var sum compress.Parts
	var first compress.Info
	var firstKV compress.KVInfo
	n, kvs, rows, above, kvBytes, kvHeader := 0, 0, 0, 0, 0, 0
	err := messages(path, func(i int, msg []byte) error {
		if compress.IsKV(msg) {
			info, err := compress.InspectKV(msg)
			switch {
			case err != nil:
				return err
			case asJSON:
				return p.print(info)
			case n > 0:
				return fmt.Errorf("codec %s behind codec %s, expected one codec (--json shows any)", info.Codec, first.Codec)
			}
			if kvs == 0 {
				firstKV = info
			}
			kvs++
			rows += info.Rows
			kvBytes += info.Bytes
			kvHeader += info.Header
			return nil
		}
		info, err := compress.Inspect(msg)
		if err == nil && info.Tables != "" && t != nil {
			info, err = t.Inspect(msg)
		}
		switch {
		case err != nil:
			return err
		case asJSON:
			return p.print(info)
		case kvs > 0:
			return fmt.Errorf("codec %s behind codec %s, expected one codec (--json shows any)", info.Codec, firstKV.Codec)
		case n > 0 && info.Codec != first.Codec:
			return fmt.Errorf("codec %s behind codec %s, expected one codec (--json shows any)", info.Codec, first.Codec)
		case n > 0 && info.Tables != first.Tables:
			return fmt.Errorf("tables %q behind tables %q, expected the same (--json shows any)", info.Tables, first.Tables)
		}
		if n == 0 {
			first = info
		}
		n++
		rows += info.Rows
		above += info.Above
		sum.Add(info.Parts)
		return nil
	})
	if err != nil || asJSON {
		return errors.Join(err, p.flush())
	}
	line := func(name string, bytes int) {
		fmt.Fprintf(s.out, "%-9s %d bytes", name, bytes)
		if rows > 0 {
			fmt.Fprintf(s.out, ", %.1f per row", float64(bytes)/float64(rows))
		}
		fmt.Fprintln(s.out)
	}
	tables := func(number string) {
		if number != "" {
			fmt.Fprintf(s.out, "tables    %s, trained\n", number)
		}
	}
	if kvs > 0 {
		fmt.Fprintf(s.out, "codec     %s, %d messages of %d layers\n", firstKV.Codec, kvs, firstKV.Layers)
		tables(firstKV.Tables)
		fmt.Fprintf(s.out, "rows      %d of %d columns of keys and as many of values, from position %d\n", rows, firstKV.Cols, firstKV.Position)
		line("header", kvHeader)
		line("bodies", kvBytes-kvHeader)
		line("total", kvBytes)
		return nil
	}
	fmt.Fprintf(s.out, "codec     %s (version %d), %d messages\n", first.Codec, first.Version, n)
	tables(first.Tables)
	if first.Tables != "" && t == nil {
		fmt.Fprintf(s.out, "rows      %d; --tables FILE tells columns and parts\n", rows)
		line("header", sum.Header)
		line("body", sum.Codes)
		line("total", sum.Total())
		return nil
	}
	fmt.Fprintf(s.out, "rows      %d of %d columns, %d values above the threshold (%s)\n", rows, first.Cols, above, first.ValueType)
	for _, part := range []struct {
		name  string
		bytes int
	}{{"header", sum.Header}, {"tables", sum.Tables}, {"codes", sum.Codes}, {"side", sum.Side}, {"sparse", sum.Sparse}, {"total", sum.Total()}} {
		line(part.name, part.bytes)
	}
	return nil
}

// tablesInfo describes tables of one tensor.
type tablesInfo struct {
	Name        string   `json:"name,omitempty"` // of keys or values
	Number      string   `json:"number"`         // under which messages refer to them
	Cols        int      `json:"cols"`
	TrainedBits []int    `json:"trained_bits"` // magnitude bits Q of the rows that were seen
	Hot         []uint32 `json:"hot"`          // channels often above the threshold
}

func infoOf(name string, t *compress.Tables) tablesInfo {
	// No hot channels are [] in JSON, not null.
	return tablesInfo{name, fmt.Sprintf("%04x", t.ID()), t.Cols(), t.TrainedBits(), append([]uint32{}, t.Hot()...)}
}

// describe prints what the file holds.
func (t *tablesFile) describe(out io.Writer, asJSON bool) error {
	var all []tablesInfo
	number := ""
	if t.hidden != nil {
		all = []tablesInfo{infoOf("", t.hidden)}
	} else {
		number = fmt.Sprintf("%04x", t.kv.ID())
		for i := range t.kv.Keys {
			all = append(all, infoOf(fmt.Sprintf("k.%d", i), t.kv.Keys[i]), infoOf(fmt.Sprintf("v.%d", i), t.kv.Values[i]))
		}
	}
	if asJSON {
		p := newPrinter(out)
		for _, i := range all {
			if err := p.print(i); err != nil {
				return err
			}
		}
		return p.flush()
	}
	if t.kv != nil {
		fmt.Fprintf(out, "tables    %s for keys and values, %d layers of %d columns, %d bytes\n", number, t.kv.Layers(), t.kv.Cols(), t.size)
	}
	for _, i := range all {
		if t.hidden != nil {
			fmt.Fprintf(out, "tables    %s for %d columns, %d bytes\n", i.Number, i.Cols, t.size)
		}
		name := "trained  "
		if i.Name != "" {
			name = fmt.Sprintf("%-9s", i.Name)
		}
		fmt.Fprintf(out, "%s rows of %s magnitude bits, %d channels often above the threshold\n", name, numbers(i.TrainedBits), len(i.Hot))
	}
	return nil
}

// numbers joins numbers with commas.
func numbers(list []int) string {
	var out []string
	for _, v := range list {
		out = append(out, strconv.Itoa(v))
	}
	return strings.Join(out, ", ")
}

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"splitbench/compress"
	"splitbench/models/checkpoint"
)

func newCodec(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "codec VERB",
		Short: "Encode, decode and inspect boundary messages",
		Example: `  splitbench codec encode --tau 5 --max-activation-bits 4 hidden.safetensors hidden.msg
  splitbench codec inspect hidden.msg
  splitbench codec decode hidden.msg restored.safetensors`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newCodecEncode(s), newCodecDecode(s), newCodecInspect(s))
	return c
}

func newCodecEncode(s streams) *cobra.Command {
	o := compress.DefaultOptions()
	var codec, tensor string
	var perRow bool
	c := &cobra.Command{
		Use:   "encode IN.safetensors OUT.msg",
		Short: "Encode the rows of a tensor",
		Long: `Writes one message that holds all rows of the tensor (its last dimension is the
row), or with --per-row a concatenation of one-token messages.`,
		Example: `  splitbench codec encode --tau 5 --max-activation-bits 4 --tensor 0.hidden.3 hidden.safetensors hidden.msg`,
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := o.Validate(); err != nil {
				return usageError{err}
			}
			k, err := compress.NewCodec(codec, o)
			if err != nil {
				return usageError{err}
			}
			m, err := readMatrix(args[0], tensor)
			if err != nil {
				return err
			}
			var msg []byte
			if !perRow {
				if msg, _, err = k.Encode(nil, m); err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
			} else {
				if m.Rows == 0 {
					return fmt.Errorf("%s: the tensor has no rows, --per-row would write an empty file", args[0])
				}
				for r := 0; r < m.Rows; r++ {
					if msg, _, err = k.Encode(msg, compress.Matrix{Rows: 1, Cols: m.Cols, Data: m.Row(r)}); err != nil {
						return fmt.Errorf("%s: row %d: %w", args[0], r, err)
					}
				}
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
	fl.Float64Var(&o.Threshold, "tau", o.Threshold, "threshold tau: magnitudes from it on travel exactly")
	fl.IntVar(&o.MaxActivationBits, "max-activation-bits", o.MaxActivationBits, "largest width Qa-bar in bits, sign included")
	fl.Float64Var(&o.Delta, "delta", o.Delta, "distortion tolerance Delta of TAB-Q")
	fl.StringVar(&o.Search, "search", o.Search, "width search: tabq or fixed")
	fl.StringVar(&o.StopRule, "stop-rule", o.StopRule, "width returned: last_ok or first_exceed")
	fl.StringVar(&o.Comparison, "comparison", o.Comparison, "codes compared after floor or round")
	fl.IntVar(&o.LowerBound, "lower-bound", o.LowerBound, "smallest width tried, in magnitude bits")
	fl.StringVar(&o.Granularity, "granularity", o.Granularity, "one width per_token or per_tensor")
	fl.StringVar(&o.AboveType, "above-type", o.AboveType, "type of exact values: exact, float16, bfloat16 or float32")
	fl.StringVar(&o.SparseIndex, "sparse-index", o.SparseIndex, "index widths of the sparse part: compact or torch")
	fl.StringVar(&o.ScaleType, "scale-type", o.ScaleType, "type of scales: float16 or float32")
	return c
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
	t, ok := f.Tensor(name)
	if !ok {
		return compress.Matrix{}, usagef("%s: no tensor %q, expected one of %s", path, name, some(names))
	}
	if !t.DType.IsFloat() {
		return compress.Matrix{}, fmt.Errorf("%s: tensor %s: dtype %s, expected a float type", path, name, t.DType)
	}
	v, err := t.Float32Unchecked(nil)
	if err != nil {
		return compress.Matrix{}, err
	}
	rows, cols := 1, 1
	if n := len(t.Shape); n > 0 {
		cols = t.Shape[n-1]
		for _, d := range t.Shape[:n-1] {
			rows *= d
		}
	}
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
	return &cobra.Command{
		Use:     "decode IN.msg OUT.safetensors",
		Short:   "Restore the tensor of a message",
		Long:    "Writes the F32 tensor `restored` (rows, columns). Concatenated messages give their rows one after the other.",
		Example: `  splitbench codec decode hidden.msg restored.safetensors`,
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			var data []float32
			rows, cols := 0, -1
			err := messages(args[0], func(_ int, msg []byte) error {
				m, err := compress.Decode(nil, msg)
				if err != nil {
					return err
				}
				if cols >= 0 && m.Cols != cols {
					return fmt.Errorf("%d columns, expected %d as in the first message", m.Cols, cols)
				}
				if len(data)+len(m.Data) > compress.MaxValues {
					return fmt.Errorf("the messages hold more than %d values, the most that one file may restore to", compress.MaxValues)
				}
				cols = m.Cols
				rows += m.Rows
				data = append(data, m.Data...)
				return nil
			})
			if err != nil {
				return err
			}
			return s.writeOutput(args[1], func(w io.Writer) error {
				return checkpoint.WriteSafetensors(w, []checkpoint.NamedTensor{{Name: "restored", Shape: []int{rows, cols}, Data: data}}, nil)
			})
		},
	}
}

func newCodecInspect(s streams) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "inspect IN.msg",
		Short:   "Show the parts and bytes of messages",
		Long:    "With --json one object per message and line, else a table with the sum over the file's messages.",
		Example: `  splitbench codec inspect hidden.msg`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			p := newPrinter(s.out)
			var sum compress.Parts
			var first compress.Info
			n, rows, above := 0, 0, 0
			err := messages(args[0], func(i int, msg []byte) error {
				info, err := compress.Inspect(msg)
				if err != nil {
					return err
				}
				if asJSON {
					return p.print(info)
				}
				if i == 0 {
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
			fmt.Fprintf(s.out, "codec     %s (version %d), %d messages\n", first.Codec, first.Version, n)
			fmt.Fprintf(s.out, "rows      %d of %d columns, %d values above the threshold (%s)\n", rows, first.Cols, above, first.ValueType)
			for _, part := range []struct {
				name  string
				bytes int
			}{{"header", sum.Header}, {"tables", sum.Tables}, {"codes", sum.Codes}, {"side", sum.Side}, {"sparse", sum.Sparse}, {"total", sum.Total()}} {
				fmt.Fprintf(s.out, "%-9s %d bytes", part.name, part.bytes)
				if rows > 0 {
					fmt.Fprintf(s.out, ", %.1f per row", float64(part.bytes)/float64(rows))
				}
				fmt.Fprintln(s.out)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON lines")
	return c
}

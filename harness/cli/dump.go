package cli

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"splitbench/models/checkpoint"
)

func newDump(s streams) *cobra.Command {
	var f modelFlags
	var ids, out string
	var kvFlag string
	c := &cobra.Command{
		Use:   "dump --model DIR --ids FILE|- --out FILE.safetensors",
		Short: "Write hidden states, logits and caches of token sequences",
		Long: `For each line {"ids":[...]}, number i from 0, the output holds F32 tensors of shape
(tokens, width): i.hidden.0 (embedding) ... i.hidden.L (residual stream after each
block, before the final norm), i.final (after the final norm) and i.logits. --kv LAYERS
adds i.k.N (after RoPE) and i.v.N of each layer N (from 0), shape (kv heads, tokens, head dim).`,
		Example: `  echo '{"ids":[1,403,407]}' | splitbench dump --model DIR --ids - --out hidden.safetensors
  splitbench dump --model DIR --ids tokens.jsonl --kv all --out hidden.safetensors`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, _, err := f.open(cmd.Context(), s.err)
			if err != nil {
				return err
			}
			defer l.Close()
			layers := l.Checkpoint.Config.Layers
			kv, err := layerList(kvFlag, layers)
			if err != nil {
				return usagef("--kv %s: %w", kvFlag, err)
			}
			r, err := s.openInput(ids)
			if err != nil {
				return usageError{err}
			}
			defer r.Close()
			name := displayName(ids)
			var tensors []checkpoint.NamedTensor
			next := 0
			err = jsonLines(r, name, func(n int, text []byte) error {
				var q struct {
					IDs []int32 `json:"ids"`
				}
				if err := decodeLine(name, n, text, &q); err != nil {
					return err
				}
				if len(q.IDs) == 0 {
					return fmt.Errorf(`%s:%d: expected {"ids":[...]} with at least one id`, name, n)
				}
				if len(q.IDs) > l.MaxLength {
					return fmt.Errorf("%s:%d: %d ids, the model reads at most %d", name, n, len(q.IDs), l.MaxLength)
				}
				t, err := l.Engine.Trace(q.IDs, kv)
				if err != nil {
					return fmt.Errorf("%s:%d: %w", name, n, err)
				}
				add := func(what string, shape []int, data []float32) {
					tensors = append(tensors, checkpoint.NamedTensor{Name: fmt.Sprintf("%d.%s", next, what), Shape: shape, Data: data})
				}
				for k, h := range t.Hidden {
					add(fmt.Sprintf("hidden.%d", k), []int{len(q.IDs), l.Checkpoint.Config.HiddenSize}, h)
				}
				add("final", []int{len(q.IDs), l.Checkpoint.Config.HiddenSize}, t.Final)
				add("logits", []int{len(q.IDs), l.Checkpoint.Config.VocabSize}, t.Logits)
				for _, k := range kv {
					shape := []int{l.Checkpoint.Config.KVHeads, len(q.IDs), l.Checkpoint.Config.HeadDim}
					add(fmt.Sprintf("k.%d", k), shape, t.Keys[k])
					add(fmt.Sprintf("v.%d", k), shape, t.Values[k])
				}
				next++
				return nil
			})
			if err != nil {
				return err
			}
			return s.writeOutput(out, func(w io.Writer) error {
				return checkpoint.WriteSafetensors(w, tensors, nil)
			})
		},
	}
	f.add(c, false)
	c.Flags().StringVar(&ids, "ids", "", "file of token sequences, - for standard input")
	c.Flags().StringVar(&out, "out", "", "safetensors file to write")
	c.Flags().StringVar(&kvFlag, "kv", "", "also write keys and values of these layers, counted from 0: numbers with commas between them, or all")
	cobra.CheckErr(c.MarkFlagRequired("ids"))
	cobra.CheckErr(c.MarkFlagRequired("out"))
	return c
}

// layerList reads layers, counted from 0: numbers with commas between them, or
// all.
func layerList(text string, layers int) ([]int, error) {
	var out []int
	if text == "all" {
		for k := range layers {
			out = append(out, k)
		}
		return out, nil
	}
	if text == "" {
		return nil, nil
	}
	for _, part := range strings.Split(text, ",") {
		k, err := strconv.Atoi(part)
		if err != nil || k < 0 || k >= layers || slices.Contains(out, k) {
			return nil, fmt.Errorf("layer %q, expected all, or layers from 0 to %d, each once, with commas between them", part, layers-1)
		}
		out = append(out, k)
	}
	return out, nil
}

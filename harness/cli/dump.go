package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"splitbench/models/checkpoint"
)

func newDump(s streams) *cobra.Command {
	var f modelFlags
	var ids, out string
	var kv int
	c := &cobra.Command{
		Use:   "dump --model DIR --ids FILE|- --out FILE.safetensors",
		Short: "Write hidden states, logits and caches of token sequences",
		Long: `For each line {"ids":[...]}, number i from 0, the output holds F32 tensors of shape
(tokens, width): i.hidden.0 (embedding) ... i.hidden.L (residual stream after each
block, before the final norm), i.final (after the final norm) and i.logits. --kv N
adds i.k.N (after RoPE) and i.v.N of layer N (from 0), shape (kv heads, tokens, head dim).`,
		Example: `  echo '{"ids":[1,403,407]}' | splitbench dump --model DIR --ids - --out hidden.safetensors`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, _, err := f.open()
			if err != nil {
				return err
			}
			defer l.Close()
			layers := l.Checkpoint.Config.Layers
			if cmd.Flags().Changed("kv") && (kv < 0 || kv >= layers) {
				return usagef("--kv %d, expected a layer from 0 to %d", kv, layers-1)
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
				if kv >= 0 {
					shape := []int{l.Checkpoint.Config.KVHeads, len(q.IDs), l.Checkpoint.Config.HeadDim}
					add(fmt.Sprintf("k.%d", kv), shape, t.Keys)
					add(fmt.Sprintf("v.%d", kv), shape, t.Values)
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
	c.Flags().IntVar(&kv, "kv", -1, "also write keys and values of this layer, counted from 0")
	cobra.CheckErr(c.MarkFlagRequired("ids"))
	cobra.CheckErr(c.MarkFlagRequired("out"))
	return c
}

package cli

import (
	"bufio"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"splitbench/harness/exec"
	"splitbench/models/tokenizer"
)

func newGenerate(s streams) *cobra.Command {
	var f modelFlags
	var prompt, ids string
	var sampling exec.Sampling
	var maxNew int
	var asJSON, ignoreEOS bool
	c := &cobra.Command{
		Use:   "generate --model DIR (--prompt TEXT | --ids 1,2,3) --max-new-tokens N",
		Short: "Continue a text, greedily by default",
		Long: `Writes the generated text as it comes, or with --json one object
{"ids":[...],"text":"...","logprobs":[...]} with the generated ids (an end-of-text
token included), their text and log-probabilities, and for a split --method
"payload_bytes", one entry per token: the first carries the prompt, every later one
its own row. A prompt is encoded with the tokenizer's own template (BOS);
--ids are taken as they are.`,
		Example: `  splitbench generate --model DIR --prompt "Once upon a time" --max-new-tokens 50`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			byText := cmd.Flags().Changed("prompt")
			if maxNew <= 0 {
				return usagef("--max-new-tokens %d, expected a positive number", maxNew)
			}
			if !(sampling.Temperature >= 0 && sampling.Temperature < math.Inf(1)) || !(sampling.TopP > 0 && sampling.TopP <= 1) {
				return usagef("--temperature must not be negative or infinite, --top-p must be in (0, 1]")
			}
			var start []int32
			if !byText {
				var err error
				if start, err = parseIDs(ids); err != nil {
					return usageError{err}
				}
			}
			l, session, err := f.open(cmd.Context(), s.err)
			if err != nil {
				return err
			}
			defer l.Close()
			t := l.Tokenizer
			if byText || !asJSON {
				if t, err = l.RequireTokenizer(); err != nil {
					return err
				}
			}
			if byText {
				if start = t.Encode(prompt, true); len(start) == 0 {
					return usagef("--prompt has no tokens, and the tokenizer adds none")
				}
			}
			if maxNew > l.MaxLength || len(start)+maxNew > l.MaxLength+1 {
				return usagef("%d prompt tokens and %d new ones do not fit the model's length of %d", len(start), maxNew, l.MaxLength)
			}
			var stream *tokenizer.Stream
			if t != nil {
				stream = tokenizer.NewStream(t)
				for _, id := range start {
					stream.Push(id)
				}
			}
			ends := l.Checkpoint.Config.EOS
			if t != nil {
				if id, ok := t.EOS(); ok {
					ends = append(slices.Clone(ends), id)
				}
			}
			stop := func(id int32) bool { return !ignoreEOS && slices.Contains(ends, id) }
			var answer struct {
				IDs      []int32        `json:"ids"`
				Text     *string        `json:"text"`
				LogProbs []float64      `json:"logprobs"`
				Payload  []*payloadJSON `json:"payload_bytes,omitempty"`
			}
			var text strings.Builder
			out := bufio.NewWriter(s.out)
			err = session.Generate(cmd.Context(), start, maxNew, sampling, stop, func(k exec.Token) error {
				answer.IDs = append(answer.IDs, k.ID)
				answer.LogProbs = append(answer.LogProbs, k.LogProb)
				if f.method != "" {
					answer.Payload = append(answer.Payload, payloadOf(k.Payload))
				}
				if stream == nil || stop(k.ID) {
					return nil
				}
				piece := stream.Push(k.ID)
				text.WriteString(piece)
				if !asJSON {
					out.WriteString(piece)
					return out.Flush()
				}
				return nil
			})
			if err != nil {
				return err
			}
			if stream != nil {
				rest := stream.Flush()
				text.WriteString(rest)
				if !asJSON {
					out.WriteString(rest)
					// Exactly the text when it goes to a file or a pipe.
					if isTerminal(s.out) {
						out.WriteByte('\n')
					}
					return out.Flush()
				}
				str := text.String()
				answer.Text = &str
			}
			p := newPrinter(s.out)
			if err := p.print(answer); err != nil {
				return err
			}
			return p.flush()
		},
	}
	f.add(c, true)
	c.Flags().StringVar(&prompt, "prompt", "", "text to continue")
	c.Flags().StringVar(&ids, "ids", "", "token ids to continue, separated by commas")
	c.Flags().IntVar(&maxNew, "max-new-tokens", 0, "tokens to generate at most")
	c.Flags().Float64Var(&sampling.Temperature, "temperature", 0, "sampling temperature; 0 is greedy")
	c.Flags().Float64Var(&sampling.TopP, "top-p", 1, "nucleus: sample among the most probable tokens that hold this mass")
	c.Flags().Uint64Var(&sampling.Seed, "seed", 0, "seed of the sampling")
	c.Flags().BoolVar(&asJSON, "json", false, "write one JSON object")
	c.Flags().BoolVar(&ignoreEOS, "ignore-eos", false, "go on after an end-of-text token")
	c.MarkFlagsOneRequired("prompt", "ids")
	c.MarkFlagsMutuallyExclusive("prompt", "ids")
	cobra.CheckErr(c.MarkFlagRequired("max-new-tokens"))
	return c
}

func parseIDs(list string) ([]int32, error) {
	var ids []int32
	for _, part := range strings.Split(list, ",") {
		n, err := strconv.ParseInt(strings.TrimSpace(part), 10, 32)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("--ids: %q is no token id, expected numbers separated by commas", part)
		}
		ids = append(ids, int32(n))
	}
	return ids, nil
}

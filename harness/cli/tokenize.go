package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func newTokenize(s streams) *cobra.Command {
	var model, file, in, out string
	var special, parse, decode bool
	c := &cobra.Command{
		Use:   "tokenize --model DIR_OR_TOKENIZER_FILE [FILE]",
		Short: "Turn text into token ids and back, one JSON object per line",
		Long: `Reads lines {"text":"..."} and writes {"ids":[...]}; with --decode the reverse.
FILE defaults to - (standard input).`,
		Example: `  echo '{"text":"Once upon a time"}' | splitbench tokenize --model tok512.model --special`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			in = "-"
			if len(args) == 1 {
				in = args[0]
			}
			t, err := openTokenizer(model, file)
			if err != nil {
				return err
			}
			r, err := s.openInput(in)
			if err != nil {
				return usageError{err}
			}
			defer r.Close()
			name := displayName(in)
			return s.writeOutput(out, func(w io.Writer) error {
				p := newPrinter(w)
				err := jsonLines(r, name, func(n int, text []byte) error {
					if decode {
						var q struct {
							IDs *[]int32 `json:"ids"`
						}
						if err := decodeLine(name, n, text, &q); err != nil {
							return err
						}
						if q.IDs == nil {
							return fmt.Errorf(`%s:%d: no key "ids", expected {"ids":[...]}`, name, n)
						}
						d, err := t.Decode(*q.IDs)
						if err != nil {
							return fmt.Errorf("%s:%d: %w", name, n, err)
						}
						return p.print(struct {
							Text string `json:"text"`
						}{d})
					}
					var q struct {
						Text *string `json:"text"`
					}
					if err := decodeLine(name, n, text, &q); err != nil {
						return err
					}
					if q.Text == nil {
						return fmt.Errorf(`%s:%d: no key "text", expected {"text":"..."}`, name, n)
					}
					encode := t.Encode
					if parse {
						encode = t.EncodeParsed
					}
					ids := encode(*q.Text, special)
					if ids == nil {
						ids = []int32{}
					}
					return p.print(struct {
						IDs []int32 `json:"ids"`
					}{ids})
				})
				if err != nil {
					p.flush()
					return err
				}
				return p.flush()
			})
		},
	}
	c.Flags().StringVar(&model, "model", "", "model folder or tokenizer file")
	c.Flags().StringVar(&file, "tokenizer", "", "tokenizer file or folder, when it is not in the model's folder")
	c.Flags().StringVar(&out, "out", "-", "output file")
	c.Flags().BoolVar(&special, "special", false, "with the tokenizer's own BOS/EOS template")
	c.Flags().BoolVar(&parse, "parse-special", false, "special tokens written in the text become their ids")
	c.Flags().BoolVar(&decode, "decode", false, "from ids to text")
	c.MarkFlagsOneRequired("model", "tokenizer")
	return c
}

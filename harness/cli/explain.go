package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"splitbench/experiments/spec"
	"splitbench/harness/exec"
	"splitbench/harness/runner"
	"splitbench/tasks"
)

func newExplain(s streams) *cobra.Command {
	var set []string
	var doc int
	var model, task, method string
	c := &cobra.Command{
		Use:   "explain SPEC.yaml --doc N",
		Short: "Show one document from text to verdict",
		Long: `Scores document N (its row number in the data) with the first cell of the spec that
fits --model, --task and --method (a part of the cell's label), and shows the context,
the continuations, their token ids with boundaries, log-probabilities per token, both
normalisations and the verdict.`,
		Example: `  splitbench explain experiments/real-smoke.yaml --doc 3 --task piqa --method "split l=3"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			sp, err := loadSpec(args[0], set)
			if err != nil {
				return err
			}
			w := runner.NewWorkbench(runner.Compute{})
			defer w.Close()
			cells, err := sp.Cells(w.Layers)
			if err != nil {
				return usageError{err}
			}
			for _, c := range cells {
				if model != "" && c.Model.Name != model || task != "" && c.Task.Name != task || !strings.Contains(c.Label(), method) {
					continue
				}
				c.Task.Limit = spec.Limit{} // any document of the data can be explained
				p, err := w.Prepare(c)
				if err != nil {
					return err
				}
				var unit *runner.Unit
				for i := range p.Units {
					if int(p.Units[i].Rows[0].Doc) == doc {
						unit = &p.Units[i]
					}
				}
				if unit == nil {
					return usagef("task %s of the spec has no document %d among its %d (%d more are longer than the model)", c.Task.Name, doc, len(p.Units), len(p.Skipped))
				}
				l, err := w.Open(c.Model)
				if err != nil {
					return err
				}
				m, err := w.Method(c)
				if err != nil {
					return err
				}
				if _, err := w.Quantize(cmd.Context(), l, c, func(text string) { fmt.Fprintln(s.err, text) }); err != nil {
					return err
				}
				session, err := l.Engine.NewSession(m)
				if err != nil {
					return err
				}
				answers, err := session.Score(cmd.Context(), unit.Requests)
				if err != nil {
					return err
				}
				fmt.Fprintf(s.out, "model %s, task %s, protocol %s, method %s, document %d\n", c.Model.Name, c.Task.Name, c.Protocol, c.Label(), doc)
				return explainUnit(s, l, p, unit, answers)
			}
			return usagef("no cell of the spec has model %q, task %q and a label with %q", model, task, method)
		},
	}
	f := c.Flags()
	f.IntVar(&doc, "doc", 0, "document: its row number in the data, from 0")
	f.StringVar(&model, "model", "", "model of the spec (default: the first)")
	f.StringVar(&task, "task", "", "task of the spec (default: the first)")
	f.StringVar(&method, "method", "", "part of the method's label (default: the first)")
	f.StringArrayVar(&set, "set", nil, "override a key of the spec; may be repeated")
	cobra.CheckErr(c.MarkFlagRequired("doc"))
	return c
}

func explainUnit(s streams, l *exec.Loaded, p *runner.Prepared, u *runner.Unit, answers []exec.Answer) error {
	t := l.Tokenizer
	piece := func(id int32) string {
		text, _ := t.Token(id)
		return fmt.Sprintf("%q", text)
	}
	for i, r := range u.Requests {
		a := answers[i]
		n := len(r.Input) - len(r.Targets) + 1 // context tokens in the input
		fmt.Fprintln(s.out)
		if u.Doc != nil && p.Info.Kind == tasks.MultipleChoice {
			req := u.Doc.Requests[i]
			mark := ""
			if i == u.Doc.Gold {
				mark = "  (gold)"
			}
			fmt.Fprintf(s.out, "choice %d%s\n  context       %q\n  continuation  %q\n", i, mark, req.Context, req.Continuation)
		} else {
			fmt.Fprintf(s.out, "window %d: %d tokens read, %d scored\n", i, len(r.Input), len(r.Targets))
		}
		fmt.Fprintf(s.out, "  context ids   %v\n", r.Input[:n])
		if d := u.Rows[min(i, len(u.Rows)-1)].DroppedLeft; d > 0 {
			fmt.Fprintf(s.out, "                (%d tokens dropped on the left)\n", d)
		}
		fmt.Fprintf(s.out, "  %6s  %-16s %12s  %s\n", "id", "token", "log p", "most probable")
		for j, id := range r.Targets {
			best := "same"
			if a.Argmax[j] != id {
				best = piece(a.Argmax[j])
			}
			fmt.Fprintf(s.out, "  %6d  %-16s %12.6f  %s\n", id, piece(id), a.TokenLogProbs[j], best)
		}
		fmt.Fprintf(s.out, "  sum %.6f over %d tokens, greedy %v\n", a.LogProb, len(r.Targets), a.Greedy)
		if b := a.Payload.Hidden.Total() + a.Payload.KV.Total(); b > 0 {
			fmt.Fprintf(s.out, "  sent %d bytes for %d rows (codes %d, side %d, sparse %d, tables %d, header %d; keys and values %d)\n",
				b, a.Payload.Tokens, a.Payload.Hidden.Codes, a.Payload.Hidden.Side, a.Payload.Hidden.Sparse, a.Payload.Hidden.Tables, a.Payload.Hidden.Header, a.Payload.KV.Total())
		}
	}
	fmt.Fprintln(s.out)
	if u.Doc == nil || p.Info.Kind != tasks.MultipleChoice {
		sum, n := 0.0, 0
		for i, a := range answers {
			sum += a.LogProb
			n += len(u.Requests[i].Targets)
		}
		fmt.Fprintf(s.out, "log-likelihood %.6f over %d tokens, %.6f per token\n", sum, n, sum/float64(n))
		return nil
	}
	var scores []tasks.ChoiceScore
	fmt.Fprintf(s.out, "%-8s %14s %14s %14s\n", "choice", "log p", "per character", "per byte")
	for i, a := range answers {
		scores = append(scores, tasks.ChoiceScore{LogProb: a.LogProb, Greedy: a.Greedy})
		row := u.Rows[i]
		fmt.Fprintf(s.out, "%-8d %14.6f %14.6f %14.6f\n", i, a.LogProb, a.LogProb/float64(row.Chars), a.LogProb/float64(row.Bytes))
	}
	v := tasks.Judge(p.Info, p.Protocol, *u.Doc, scores)
	fmt.Fprintf(s.out, "gold %d: acc %.0f (chose %d), acc_norm %.0f (chose %d), acc_bytes %.0f (chose %d)\n", u.Doc.Gold, v.Acc, v.Verdict, v.AccNorm, v.VerdictNorm, v.AccBytes, v.VerdictBytes)
	return nil
}

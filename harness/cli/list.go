package cli

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"splitbench/compress"
	"splitbench/experiments/spec"
	"splitbench/figures"
	"splitbench/harness/builtin"
	"splitbench/harness/exec"
	"splitbench/harness/runner"
	"splitbench/models/checkpoint"
	"splitbench/models/quantize"
	"splitbench/tasks"
)

func newList(s streams) *cobra.Command {
	var check, tokenizerPath string
	c := &cobra.Command{
		Use:       "list models|tasks|methods|experiments|figures|keys",
		Short:     "List what can be used in a spec",
		Example:   `  splitbench list tasks`,
		ValidArgs: []string{"models", "tasks", "methods", "experiments", "figures", "keys"},
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(c.ValidArgs, args[0]) {
				return fmt.Errorf("%q, expected one of %s", args, strings.Join(c.ValidArgs, ", "))
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if check != "" {
				if args[0] != "models" {
					return usagef("--check is for list models")
				}
				return checkModel(s, check, tokenizerPath)
			}
			t := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
			switch args[0] {
			case "models":
				fmt.Fprintln(t, "model\thub name\tparameters\tlayers\twidth\tKV width\tKV bytes/token (16 bit)\tlicence")
				for _, k := range checkpoint.KnownModels() {
					licence := k.Licence
					if k.Gated {
						licence += " (gated: accept it on the model's page)"
					}
					fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", k.Name, k.Hub, k.Parameters(), k.Config.Layers, k.Config.HiddenSize, k.Config.KVWidth(), k.Config.KVBytesPerToken(2), licence)
				}
				fmt.Fprintln(t)
				fmt.Fprintln(t, "path\twhat")
				names, about := builtin.Names()
				for i, n := range names {
					fmt.Fprintf(t, "%s\t%s\n", n, about[i])
				}
				fmt.Fprintf(t, "DIR\tHugging Face folder: config.json and model.safetensors (or shards with an index) of %v\n", checkpoint.Architectures())
				fmt.Fprintln(t, "FILE.bin\tllama2.c checkpoint, float32 (legacy or version 1)")
			case "tasks":
				fmt.Fprintln(t, "task\tkind\tmetrics (first: in tables)\tdata set\tsplit\twhat")
				for _, i := range tasks.List() {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", i.Name, i.Kind, metricsText(i), i.Dataset, i.Split, i.Description)
				}
			case "methods":
				fmt.Fprintln(t, "method\tkeys\twhat")
				fmt.Fprintln(t, "whole\t(none)\tthe model as stored")
				fmt.Fprintln(t, "weights\tfront, back, l_w\tgroup-wise round-to-nearest weights, no split (OPSC, arXiv 2511.04002 Eq. 1)")
				fmt.Fprintln(t, "split\tsplit_layer, front, boundary, max_tokens, include_kv\tlayers 1..l on the edge, the activation through a codec (Eq. 4-7, Algorithm 1)")
				fmt.Fprintln(t, "quantizer\tquantizer, calibration\ta baseline in all layers; front.quantizer and back.quantizer are those of a segment")
				fmt.Fprintln(t, "ours-boundary\tpreset, quantizer, split_layer, boundary\tweights alone quantised by the baseline, the hidden state at the split through the boundary (Table 3, one reading)")
				fmt.Fprintln(t, "ours-front\tpreset, quantizer, split_layer, boundary\tlayers 1..l quantised by the baseline, activations at max_activation_bits; the others exact (the other reading)")
				for _, p := range quantize.Presets() {
					fmt.Fprintf(t, "%s\tquantizer.preset\t%s\n", p.Name, runner.SchemeText(p))
				}
				fmt.Fprintf(t, "codecs\tboundary.codec\tnone %v\n", compress.CodecNames())
			case "experiments":
				fmt.Fprintln(t, "spec\tname\twhat")
				for _, path := range runner.Experiments() {
					if all, err := spec.Members(path); err == nil && len(all) > 1 {
						fmt.Fprintf(t, "%s\t-\ta suite of %d specs\n", filepath.ToSlash(path), len(all))
						continue
					}
					sp, err := spec.Load(path, spec.LoadOptions{Env: anyEnv})
					if err != nil {
						if tr, terr := spec.LoadTraining(path, spec.LoadOptions{Env: anyEnv}); terr == nil {
							fmt.Fprintf(t, "%s\t%s\tfor the verb train: %s\n", filepath.ToSlash(path), tr.Name, firstLine(tr.Description))
							continue
						}
						fmt.Fprintf(t, "%s\t?\t%v\n", path, err)
						continue
					}
					fmt.Fprintf(t, "%s\t%s\t%s\n", filepath.ToSlash(path), sp.Name, firstLine(sp.Description))
				}
			case "figures":
				fmt.Fprintln(t, "output\ttitle\tneeds")
				for _, f := range figures.List() {
					fmt.Fprintf(t, "%s\t%s\t%s\n", f.Name, f.Title, f.Needs)
				}
			case "keys":
				fmt.Fprintln(t, "key\ttype\tdefault\twhat")
				for _, k := range spec.Keys() {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", k.Path, k.Type, k.Default, k.Doc)
				}
			}
			return t.Flush()
		},
	}
	c.Flags().StringVar(&check, "check", "", "with models: say whether this folder or file is complete and loadable")
	c.Flags().StringVar(&tokenizerPath, "tokenizer", "", "with --check: tokenizer file or folder, when it is not in the model's folder")
	return c
}

// checkModel opens a model and its tokenizer without reading the weights.
func checkModel(s streams, path, tokenizerPath string) error {
	path, err := exec.Locate(path)
	if err != nil {
		return usageError{err}
	}
	c, err := checkpoint.Open(path)
	if err != nil {
		return err
	}
	defer c.Close()
	cfg := c.Config
	perLayer, total := cfg.ParameterCount()
	fmt.Fprintf(s.out, "%s: complete, %s, %d layers of %d parameters, %d in all, width %d, %d heads (%d key/value) of %d, vocabulary %d, %d positions, %d KV bytes per token at 16 bit\n",
		path, cfg.Architecture, cfg.Layers, perLayer, total, cfg.HiddenSize, cfg.Heads, cfg.KVHeads, cfg.HeadDim, cfg.VocabSize, cfg.MaxPositions, cfg.KVBytesPerToken(2))
	t, err := exec.OpenTokenizer(path, tokenizerPath)
	switch {
	case err != nil:
		return err
	case t == nil:
		fmt.Fprintln(s.out, "no tokenizer beside it: name one with --tokenizer")
	case t.Size() > cfg.VocabSize:
		return fmt.Errorf("%s: the tokenizer has %d tokens, the model only %d", path, t.Size(), cfg.VocabSize)
	default:
		fmt.Fprintf(s.out, "tokenizer: %s, %d tokens\n", t.Kind(), t.Size())
	}
	return nil
}

// anyEnv lets a spec be described where its data is absent.
func anyEnv(name string) (string, bool) {
	if v, ok := lookupEnv(name); ok {
		return v, true
	}
	return "/" + name, true
}

func metricsText(i tasks.Info) string {
	text := i.Primary
	for _, m := range i.Metrics {
		if m != i.Primary {
			text += " " + m
		}
	}
	return text
}

func firstLine(text string) string {
	for i, r := range text {
		if r == '\n' {
			return text[:i]
		}
	}
	return text
}

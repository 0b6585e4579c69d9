package cli

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"splitbench/compress"
	"splitbench/harness/bench"
	"splitbench/harness/exec"
	"splitbench/harness/runner"
	"splitbench/models/checkpoint"
	"splitbench/results"
	"splitbench/tasks"
)

func newBench(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "bench VERB",
		Short: "Measure codecs, CPU kernels and quantization against rivals and the machine's limits",
		Long: `Contestants are measured in turn, round by round, so that what disturbs the machine
disturbs rivals alike; ratios are taken round by round. Figures are medians.`,
		Example: `  splitbench bench codec --input hidden.safetensors:0.hidden.3 --rival huff0
  splitbench bench cpu --preset 15M --threads 1,2
  splitbench bench quantize --preset 1.1B`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newBenchCodec(s), newBenchCPU(s), newBenchQuantize(s))
	return c
}

// benchFlags are the flags of every benchmark.
type benchFlags struct {
	rounds  int
	least   time.Duration
	json    bool
	parquet string
}

func (f *benchFlags) add(c *cobra.Command, rounds int) {
	c.Flags().IntVar(&f.rounds, "rounds", rounds, "interleaved measurements of each contestant")
	c.Flags().DurationVar(&f.least, "min-time", bench.DefaultTiming().Least, "least duration of one measurement: short operations are repeated")
	c.Flags().BoolVar(&f.json, "json", false, "write one JSON object instead of the tables")
	c.Flags().StringVar(&f.parquet, "parquet", "", "also write the measurements to this Parquet file")
}

// timing checks the flags.
func (f *benchFlags) timing() (bench.Timing, error) {
	t := bench.DefaultTiming()
	if f.rounds < 1 || f.rounds > 10000 {
		return t, usagef("--rounds %d, expected 1 to 10000", f.rounds)
	}
	if f.least < 0 || f.least > time.Minute {
		return t, usagef("--min-time %v, expected 0s to 1m", f.least)
	}
	t.Rounds, t.Least = f.rounds, f.least
	return t, nil
}

// write prints a report in the form that the flags ask for.
func (f *benchFlags) write(s streams, r *bench.Report) error {
	setup := results.ThisSetup(Version(), bench.CPUFeatures())
	if f.parquet != "" {
		err := s.writeOutput(f.parquet, func(w io.Writer) error { return results.WriteMeasurements(w, setup, r.Measurements) })
		if err != nil {
			return err
		}
	}
	if f.json {
		return results.EncodeMeasurements(s.out, setup, r.Notes, r.Measurements)
	}
	machine := setup.CPUModel
	if machine == "" {
		machine = setup.Arch
	}
	r.Notes = append(r.Notes, fmt.Sprintf("%s, %d CPUs (%s); splitbench %s, %s %s/%s.", machine, setup.CPUs, setup.CPUFeatures, setup.Version, setup.GoVersion, setup.OS, setup.Arch))
	return r.Markdown(s.out)
}

// step tells someone who watches what is measured.
func (s streams) step(what string) {
	if isTerminal(s.err) {
		fmt.Fprintln(s.err, what)
	}
}

// distinct refuses empty lists and what is named twice.
func distinct[T comparable](flag string, list []T) error {
	if len(list) == 0 {
		return usagef("--%s is empty, expected at least one value", flag)
	}
	for i, v := range list {
		if slices.Contains(list[:i], v) {
			return usagef("--%s names %v twice", flag, v)
		}
	}
	return nil
}

// choices checks a list of names.
func choices(flag string, list, known []string) error {
	for _, name := range list {
		if !slices.Contains(known, name) {
			return usagef("--%s %q, expected one of %s", flag, name, strings.Join(known, ", "))
		}
	}
	return nil
}

// parseSize reads ROWSxCOLUMNS.
func parseSize(flag, text string) (rows, cols int, err error) {
	a, b, ok := strings.Cut(text, "x")
	rows, err1 := strconv.Atoi(a)
	cols, err2 := strconv.Atoi(b)
	if !ok || err1 != nil || err2 != nil || rows < 1 || cols < 1 || rows > 1<<20 || cols > 1<<20 || rows*cols > compress.MaxValues/2 {
		return 0, 0, usagef("--%s %q, expected ROWSxCOLUMNS such as 128x4096", flag, text)
	}
	return rows, cols, nil
}

func newBenchCodec(s streams) *cobra.Command {
	var f benchFlags
	var inputs, codecs, rivals []string
	var synthetic, train, tables string
	var seed uint64
	var taus []float64
	var bits []int
	streams := 512 << 10
	c := &cobra.Command{
		Use:   "codec [--input FILE.safetensors[:TENSOR]]",
		Short: "Bytes, error and speed of the boundary codecs, and of entropy coders",
		Long: `Encodes and decodes the rows of each input, one message per token and one for all
rows, with every codec, threshold and width: bytes per token by part, overhead over
the order-0 entropy of each row's codes, error against the input, and time. Then
measures entropy coders on symbol streams: this project's and the rivals of Go.

--input may be given several times; TENSOR may be a pattern (dump.safetensors:*.hidden.3
takes the third layer of all sequences). Its last dimension is the row. Without --input
synthetic activations with heavy tails are measured. A codec with trained tables is
trained on --train, or on the first half of an input of more than 64 rows, which is then
not measured.`,
		Example: `  splitbench bench codec
  splitbench bench codec --input hidden.safetensors:0.hidden.3 --codec literal,packed --tau 1,5,10
  splitbench bench codec --input activations.safetensors:llm --train activations.safetensors:llm_train
  splitbench bench codec --rounds 21 --rival huff0 --json > codec.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			timing, err := f.timing()
			if err != nil {
				return err
			}
			o := bench.CodecOptions{Codecs: codecs, Rivals: rivals, Tau: taus, Bits: bits, Readings: compress.DefaultOptions(), Streams: streams, Timing: timing, Step: s.step}
			if err := errors.Join(distinct("tau", taus), distinct("max-activation-bits", bits), distinct("codec", codecs)); err != nil {
				return err
			}
			if err := choices("codec", codecs, compress.CodecNames()); err != nil {
				return err
			}
			if len(rivals) > 0 {
				if err := errors.Join(distinct("rival", rivals), choices("rival", rivals, bench.Rivals())); err != nil {
					return err
				}
			}
			if streams < 1 || streams > 1<<28 {
				return usagef("--symbols %d, expected 1 to %d", streams, 1<<28)
			}
			for _, tau := range taus {
				for _, n := range bits {
					r := o.Readings
					r.Threshold, r.MaxActivationBits = tau, n
					if err := r.Validate(); err != nil {
						return usageError{err}
					}
					if math.IsInf(tau, 0) {
						return usagef("--tau %v, expected a finite threshold", tau)
					}
				}
			}
			rows, cols, err := parseSize("synthetic", synthetic)
			if err != nil {
				return err
			}
			if tables != "" {
				if train != "" {
					return usagef("--tables and --train are two ways to the same tables, expected one")
				}
				t, err := openTables(tables)
				if err == nil {
					err = t.only(false)
				}
				if err != nil {
					return err
				}
				o.Readings.Tables = t.hidden
			}
			var other bench.Activations
			if train != "" {
				if len(inputs) == 0 {
					return usagef("--train is for --input; synthetic activations have rows to train on of their own")
				}
				if other, err = readActivations(train); err != nil {
					return err
				}
			}
			for _, name := range inputs {
				a, err := readActivations(name)
				if err != nil {
					return err
				}
				if other.Rows.Rows > 0 && other.Rows.Cols != a.Rows.Cols {
					return usagef("--train %s has rows of %d values, %s has %d", train, other.Rows.Cols, name, a.Rows.Cols)
				}
				a.Train = other.Rows
				o.Inputs = append(o.Inputs, a)
			}
			if len(inputs) == 0 || cmd.Flags().Changed("synthetic") {
				o.Inputs = append(o.Inputs, bench.Synthetic(rows, 4*rows, cols, seed))
			}
			r, err := bench.Codec(cmd.Context(), o)
			if err != nil {
				return err
			}
			return f.write(s, r)
		},
	}
	f.add(c, bench.DefaultTiming().Rounds)
	fl := c.Flags()
	fl.StringArrayVar(&inputs, "input", nil, "stored activations: FILE.safetensors[:TENSOR]")
	fl.StringVar(&train, "train", "", "other rows of the same origin to train tables on: FILE.safetensors[:TENSOR]")
	fl.StringVar(&tables, "tables", "", "file of tables for the codecs that are trained, in place of training")
	fl.StringVar(&synthetic, "synthetic", "128x4096", "size of the synthetic activations, ROWSxCOLUMNS; given beside --input, they are measured too")
	fl.Uint64Var(&seed, "seed", 1, "seed of the synthetic activations")
	fl.StringSliceVar(&codecs, "codec", compress.CodecNames(), "codecs: "+strings.Join(compress.CodecNames(), ", "))
	fl.StringSliceVar(&rivals, "rival", bench.Rivals(), "entropy coders to compare with: "+strings.Join(bench.Rivals(), ", ")+", or \"\" for none")
	fl.Float64SliceVar(&taus, "tau", []float64{1, 5, 10}, "`thresholds` tau")
	fl.Lookup("tau").DefValue = "[1,5,10]"
	fl.IntSliceVar(&bits, "max-activation-bits", []int{2, 3, 4, 8}, "widths Qa-bar in bits, sign included")
	fl.IntVar(&streams, "symbols", streams, "length of the long symbol streams")
	return c
}

// readActivations reads stored rows; a file or tensor that is not there is a
// wrong command line.
func readActivations(name string) (bench.Activations, error) {
	a, err := bench.ReadActivations(name)
	if file, _ := bench.SplitName(name); err != nil {
		if _, serr := os.Stat(file); serr != nil {
			return a, usageError{err}
		}
	}
	return a, err
}

// shapeFlags are the flags of a model's size.
type shapeFlags struct {
	presets []string
	shape   bench.Shape
}

func (f *shapeFlags) add(c *cobra.Command) {
	var names []string
	for _, p := range bench.Presets {
		names = append(names, p.Name)
	}
	fl := c.Flags()
	fl.StringSliceVar(&f.presets, "preset", names[:1], "sizes of known models: "+strings.Join(names, ", "))
	fl.IntVar(&f.shape.Hidden, "hidden", 0, "width of the residual stream, for a size of your own")
	fl.IntVar(&f.shape.Layers, "layers", 0, "number of layers")
	fl.IntVar(&f.shape.Heads, "heads", 0, "query heads")
	fl.IntVar(&f.shape.KVHeads, "kv-heads", 0, "key and value heads (default: as many as query heads)")
	fl.IntVar(&f.shape.Intermediate, "intermediate", 0, "width of the feed-forward part")
	fl.IntVar(&f.shape.Vocab, "vocab", 0, "vocabulary")
	fl.BoolVar(&f.shape.Tied, "tied", false, "the head is the embedding")
}

// shapes returns the presets, or the one size that the flags describe, of which
// a preset may be the base.
func (f *shapeFlags) shapes(c *cobra.Command) ([]bench.Shape, error) {
	own := slices.ContainsFunc([]string{"hidden", "layers", "heads", "kv-heads", "intermediate", "vocab", "tied"}, c.Flags().Changed)
	if !own || c.Flags().Changed("preset") {
		if err := distinct("preset", f.presets); err != nil {
			return nil, err
		}
	}
	var list []bench.Shape
	var names []string
	for _, p := range bench.Presets {
		names = append(names, p.Name)
	}
	if err := choices("preset", f.presets, names); err != nil {
		return nil, err
	}
	for _, name := range f.presets {
		list = append(list, bench.Presets[slices.Index(names, name)])
	}
	if !own {
		return list, nil
	}
	s := f.shape
	s.Name = "custom"
	if c.Flags().Changed("preset") {
		if len(list) > 1 {
			return nil, usagef("--preset names %d sizes, expected one beside flags that change it", len(list))
		}
		base := list[0]
		s.Name = base.Name + " changed"
		for _, v := range []struct {
			flag string
			to   *int
			from int
		}{{"hidden", &s.Hidden, base.Hidden}, {"layers", &s.Layers, base.Layers}, {"heads", &s.Heads, base.Heads}, {"kv-heads", &s.KVHeads, base.KVHeads}, {"intermediate", &s.Intermediate, base.Intermediate}, {"vocab", &s.Vocab, base.Vocab}} {
			if !c.Flags().Changed(v.flag) {
				*v.to = v.from
			}
		}
		if !c.Flags().Changed("tied") {
			s.Tied = base.Tied
		}
	} else if !c.Flags().Changed("kv-heads") {
		s.KVHeads = s.Heads
	}
	if err := s.Check(); err != nil {
		return nil, usagef("--%w", err)
	}
	return []bench.Shape{s}, nil
}

// within checks a number that a flag gives.
func within(flag string, v, least, most int) error {
	if v < least || v > most {
		return usagef("--%s %d, expected %d to %d", flag, v, least, most)
	}
	return nil
}

// sharedVariable is the environment variable of the folder with data/.
const sharedVariable = "SPLITBENCH_SHARED"

// smallModel is the number of weights up to which HellaSwag is measured
// without being asked for.
const smallModel = 50e6

func newBenchCPU(s streams) *cobra.Command {
	var f benchFlags
	var shape shapeFlags
	var threads []int
	var types, measure []string
	var rival, pattern, rivalFor, hellaswag, tokenizerPath string
	var documents int
	o := bench.CPUOptions{}
	cold := 256
	c := &cobra.Command{
		Use:   "cpu [--preset 15M,110M,1.1B]",
		Short: "Kernels and passes of the CPU executor against the machine's limits",
		Long: `Measures matrix products (GFLOP/s, share of this machine's measured peak), products
of one row (GB/s, share of the measured bandwidth), prefill, ragged prefill and decode
(tokens per second, share of the floor that peak or bandwidth set) and the time of
HellaSwag, on models of random weights that are made in memory: nothing is read but
HellaSwag's data (--hellaswag, or $SPLITBENCH_SHARED/data), and nothing is written.

bf16 rounds all weights; int8 and int4 quantise the layers, as an edge has them, and
embedding and head stay fp32.
hellaswag is measured when its data is there, on models above 50 M weights only if it
is asked for with --hellaswag or --measure.

--rival runs a second program in turn with one of our passes and prints the ratio. Its
whole time counts, or with --rival-pattern the figure it prints: the first group of the
last match, in tokens per second (in seconds for hellaswag). {threads} in the command
becomes the number of threads.`,
		Example: `  splitbench bench cpu
  splitbench bench cpu --preset 1.1B --threads 1,2 --types fp32 --measure prefill,decode
  splitbench bench cpu --hidden 512 --layers 8 --heads 8 --intermediate 1376 --vocab 32000
  splitbench bench cpu --measure prefill --rival 'llama-bench -m f32.gguf -t {threads} -p 512 -n 0 -o csv' --rival-pattern ',"([0-9.]+)","[0-9.]+"$'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Timing, err = f.timing(); err != nil {
				return err
			}
			if o.Shapes, err = shape.shapes(cmd); err != nil {
				return err
			}
			err = errors.Join(distinct("threads", threads), distinct("types", types), distinct("measure", measure), distinct("rows", o.Rows),
				choices("types", types, bench.WeightTypes()), choices("measure", measure, bench.CPUMeasurements()), checkKernel(o.Kernel),
				within("tokens", o.Tokens, 1, 4096), within("decode", o.Decode, 1, 4096), within("group", o.Group, 0, 1<<16),
				within("cold-mib", cold, 1, 1<<16), within("documents", documents, 1, 1<<20), within("hellaswag-rounds", o.HellaSwag.Rounds, 1, 1000))
			for _, n := range threads {
				err = errors.Join(err, within("threads", n, 1, 4096))
			}
			for _, n := range o.Rows {
				err = errors.Join(err, within("rows", n, 1, 1<<16))
			}
			if err != nil {
				return err
			}
			if o.Rival, err = parseRival(rival, pattern, rivalFor, measure); err != nil {
				return err
			}
			o.Threads, o.Types, o.Measure = threads, types, measure
			o.Cold, o.Buffer = int64(cold)<<20, cold<<20
			o.Peak = 10 * max(o.Timing.Least, time.Millisecond)
			o.Memory = runner.AvailableMemory()
			o.Step = s.step
			var notes []string
			if slices.Contains(measure, bench.PassHellaSwag) {
				asked := hellaswag != "" || cmd.Flags().Changed("measure")
				left := ""
				for _, sh := range o.Shapes {
					if sh.Parameters() > smallModel && !asked {
						left = fmt.Sprintf("hellaswag is left out: a %s model takes long, ask for it with --hellaswag or --measure.", sh.Name)
					}
				}
				if shared, _ := lookupEnv(sharedVariable); left == "" && !asked && shared == "" {
					left = "hellaswag is left out: no data, name it with --hellaswag or $" + sharedVariable + "."
				}
				if left != "" {
					notes = append(notes, left)
					o.Measure = slices.DeleteFunc(slices.Clone(measure), func(m string) bool { return m == bench.PassHellaSwag })
				} else {
					note, err := loadHellaSwag(&o, hellaswag, tokenizerPath, documents)
					if err != nil {
						return err
					}
					notes = append(notes, note)
				}
			}
			r, err := bench.CPU(cmd.Context(), o)
			if err != nil {
				return err
			}
			r.Notes = append(r.Notes, notes...)
			return f.write(s, r)
		},
	}
	f.add(c, 5)
	shape.add(c)
	fl := c.Flags()
	fl.IntSliceVar(&threads, "threads", []int{1}, "numbers of threads")
	fl.StringSliceVar(&types, "types", bench.WeightTypes(), "types of the weights: "+strings.Join(bench.WeightTypes(), ", "))
	fl.StringSliceVar(&measure, "measure", bench.CPUMeasurements(), "what to measure: "+strings.Join(bench.CPUMeasurements(), ", "))
	fl.IntSliceVar(&o.Rows, "rows", []int{1, 8, 64, 256, 512}, "rows M of the products")
	fl.IntVar(&o.Tokens, "tokens", 512, "tokens of a prefill")
	fl.IntVar(&o.Decode, "decode", 64, "tokens that one decode computes")
	fl.IntVar(&o.Group, "group", 32, "weights that share a scale in int8 and int4; 0 = an output channel")
	fl.IntVar(&cold, "cold-mib", cold, "MiB of weights that products of one row walk over, and that the bandwidth is measured on: more than the caches hold")
	fl.StringVar(&o.Kernel, "kernel", "", "CPU kernel: avx512, avx2, neon or go (default: the fastest)")
	fl.StringVar(&rival, "rival", "", "shell command of a second program")
	fl.StringVar(&pattern, "rival-pattern", "", "regular expression whose first group is the rival's own figure")
	fl.StringVar(&rivalFor, "rival-for", bench.PassPrefill, "pass whose work the rival does: "+strings.Join(rivalPasses, ", "))
	fl.StringVar(&hellaswag, "hellaswag", "", "HellaSwag's data: a data folder that holds hellaswag/, or its file or folder (default: $SPLITBENCH_SHARED/data)")
	fl.StringVar(&tokenizerPath, "tokenizer", "", "tokenizer for HellaSwag (default: found in the data folder)")
	fl.IntVar(&documents, "documents", 400, "documents of HellaSwag")
	fl.IntVar(&o.HellaSwag.Rounds, "hellaswag-rounds", 1, "measurements of HellaSwag")
	return c
}

func newBenchQuantize(s streams) *cobra.Command {
	var f benchFlags
	var shape shapeFlags
	var model string
	var group, outliers int
	o := bench.QuantizeOptions{Layers: 1}
	c := &cobra.Command{
		Use:   "quantize [--preset 1.1B] [--model DIR]",
		Short: "Quantization: GPTQ on a layer against the machine's peak, methods on a model",
		Long: `Quantizes one layer of random weights by GPTQ, calibrated with random tokens on
correlated embeddings: seconds of each part (Hessians, their factors, linear maps,
passes of the calibration set), its operations, and its share of the floor that the
measured peak of this machine sets; peak memory beyond embeddings and calibration rows.

With --model it also quantizes that model by every method and prints times and peak
memory. The tokens are random: times do not depend on them.`,
		Example: `  splitbench bench quantize --preset 1.1B
  splitbench bench quantize --preset 110M --model DIR --sequences 32 --tokens 256`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			timing, err := f.timing()
			if err != nil {
				return err
			}
			shapes, err := shape.shapes(cmd)
			if err != nil {
				return err
			}
			if len(shapes) > 1 {
				return usagef("--preset names %d sizes, expected one", len(shapes))
			}
			if err := errors.Join(within("sequences", o.Sequences, 1, 1<<16), within("tokens", o.Tokens, 1, 4096), within("bits", o.Bits, 2, 8), within("group", o.Group, 0, 1<<16),
				within("model-group", group, 0, 1<<16), within("outliers", outliers, 1, 1<<16), within("threads", o.Threads, 0, 4096), checkKernel(o.Kernel)); err != nil {
				return err
			}
			o.Shape, o.Rounds, o.Step = shapes[0], timing.Rounds, s.step
			o.Peak = 10 * max(timing.Least, time.Millisecond)
			if model != "" {
				path, err := exec.Locate(model)
				if err != nil {
					return usageError{err}
				}
				if o.Model, err = checkpoint.Open(path); err != nil {
					return err
				}
				defer o.Model.Close()
				if n := o.Model.Config.MaxPositions; o.Tokens > n {
					return usagef("--tokens %d, the model has %d positions", o.Tokens, n)
				}
				o.ModelName, o.Methods = model, bench.QuantizeMethods(group, outliers)
			}
			r, err := bench.Quantize(cmd.Context(), o)
			if err != nil {
				return err
			}
			return f.write(s, r)
		},
	}
	f.add(c, 1)
	shape.add(c)
	fl := c.Flags()
	fl.Lookup("preset").DefValue = "1.1B"
	shape.presets = []string{"1.1B"}
	fl.StringVar(&model, "model", "", "model to quantize by all methods: Hugging Face folder, ORG/NAME[@REVISION] in the hub cache, or builtin:NAME")
	fl.IntVar(&o.Sequences, "sequences", 2, "calibration sequences")
	fl.IntVar(&o.Tokens, "tokens", 2048, "tokens of each")
	fl.IntVar(&o.Bits, "bits", 4, "bits of GPTQ's weights on the layer")
	fl.IntVar(&o.Group, "group", 0, "columns that share a scale on the layer; 0 = a row")
	fl.IntVar(&group, "model-group", 32, "the same for the methods on --model that have groups")
	fl.IntVar(&outliers, "outliers", 16, "outlier columns, and the group, of Atom on --model")
	fl.IntVar(&o.Threads, "threads", 0, "threads (default: all cores)")
	fl.StringVar(&o.Kernel, "kernel", "", "CPU kernel: avx512, avx2, neon or go (default: the fastest)")
	return c
}

// rivalPasses are the measurements whose work another program can do.
var rivalPasses = []string{bench.PassPrefill, bench.PassRagged, bench.PassDecode, bench.PassHellaSwag}

func parseRival(command, pattern, pass string, measure []string) (r bench.Rival, err error) {
	if command == "" {
		if pattern != "" {
			return r, usagef("--rival-pattern is for --rival")
		}
		return r, nil
	}
	if err := choices("rival-for", []string{pass}, rivalPasses); err != nil {
		return r, err
	}
	if !slices.Contains(measure, pass) {
		return r, usagef("--rival does the work of %s, which --measure does not name", pass)
	}
	r.Command, r.Pass = command, pass
	if pattern != "" {
		if r.Pattern, err = regexp.Compile("(?m)" + pattern); err != nil {
			return r, usagef("--rival-pattern: %w", err)
		}
		if r.Pattern.NumSubexp() < 1 {
			return r, usagef("--rival-pattern %q has no group, expected one around the number", pattern)
		}
	}
	return r, nil
}

// loadHellaSwag reads the documents and the tokenizer, and says which it took.
func loadHellaSwag(o *bench.CPUOptions, dir, tokenizerPath string, documents int) (note string, err error) {
	if dir == "" {
		shared, _ := lookupEnv(sharedVariable)
		if shared == "" {
			return "", usagef("hellaswag: no data, name it with --hellaswag or $%s", sharedVariable)
		}
		dir = filepath.Join(shared, "data")
	}
	if _, err := os.Stat(dir); err != nil {
		return "", usageError{err}
	}
	path, root := dir, filepath.Dir(dir)
	if exists(filepath.Join(dir, "hellaswag")) {
		root = dir
		if path, err = tasks.DefaultPath(dir, "hellaswag"); err != nil {
			return "", err
		}
	}
	vocab := o.Shapes[0].Vocab
	for _, sh := range o.Shapes {
		vocab = min(vocab, sh.Vocab)
	}
	found := tokenizerPath
	if found == "" {
		for _, t := range []struct {
			path string
			size int
		}{{filepath.Join("tok_llama2", "tokenizer.model"), 32000}, {filepath.Join("stories260k", "tok512.model"), 512}} {
			p := filepath.Join(root, t.path)
			if exists(p) {
				found = p // the smallest, when none fits
				if t.size <= vocab {
					break
				}
			}
		}
	}
	if found == "" {
		return "", usagef("hellaswag: no tokenizer (tok_llama2 or stories260k) in %s, name one with --tokenizer", root)
	}
	if o.HellaSwag.Tokenizer, err = openTokenizer(found, ""); err != nil {
		return "", err
	}
	if o.HellaSwag.Data, err = tasks.Load("hellaswag", tasks.Options{Path: path, Protocol: tasks.JointBOS, Limit: tasks.Limit(documents)}); err != nil {
		return "", err
	}
	ids := ""
	if size := o.HellaSwag.Tokenizer.Size(); size > vocab {
		ids = fmt.Sprintf(", ids modulo %d", vocab)
	}
	return fmt.Sprintf("hellaswag: the first %d of %d documents, protocol %s, tokenizer of %d tokens%s; weights are random, so scores mean nothing.",
		len(o.HellaSwag.Data.Docs), o.HellaSwag.Data.Total, tasks.JointBOS, o.HellaSwag.Tokenizer.Size(), ids), nil
}

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"splitbench/compress"
	"splitbench/models/checkpoint"
	"splitbench/results"
)

// shared returns a file of the shared data.
func shared(t *testing.T, elements ...string) string {
	t.Helper()
	dir := os.Getenv("SPLITBENCH_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	path := filepath.Join(append([]string{dir}, elements...)...)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("SPLITBENCH_REQUIRE_SHARED") == "1" {
			t.Fatalf("shared data required: %v", err)
		}
		t.Skipf("no shared data: %v (set SPLITBENCH_SHARED)", err)
	}
	return path
}

func TestEntropyBytes(t *testing.T) {
	for _, c := range []struct {
		symbols []byte
		want    float64
	}{
		{[]byte{3, 3, 3, 3}, 0},
		{[]byte{0, 0, 1, 1, 0, 0, 1, 1}, 1},         // one bit each
		{[]byte{0, 0, 1, 2, 0, 0, 1, 2}, 12. / 8},   // 4 of 1 bit, 4 of 2 bits
		{[]byte{0, 0, 0, 1}, (3*.415037 + 2.0) / 8}, // log2(4/3) = .415037
	} {
		if got := entropyBytes(c.symbols); math.Abs(got-c.want) > 1e-6 {
			t.Errorf("%v: %v bytes, want %v", c.symbols, got, c.want)
		}
	}
}

// TestOrder0Golden compares with the stored order-0 entropies.
func TestOrder0Golden(t *testing.T) {
	data, err := os.ReadFile(shared(t, "golden", "codec", "golden.json"))
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Cases []struct {
			Input  string  `json:"input"`
			Tau    float64 `json:"tau"`
			Bits   int     `json:"max_activation_bits"`
			Order0 float64 `json:"order0_bytes_per_token"`
		} `json:"cases"`
	}
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range golden.Cases {
		if c.Input != "gauss" && (c.Tau != 5 || c.Bits != 4) {
			continue // one of the large ones will do
		}
		a, err := ReadActivations(shared(t, "golden", "codec", "activations.safetensors") + ":" + c.Input)
		if err != nil {
			t.Fatal(err)
		}
		o := compress.DefaultOptions()
		o.Threshold, o.MaxActivationBits = c.Tau, c.Bits
		q, err := compress.Quantise(a.Rows, o)
		if err != nil {
			t.Fatal(err)
		}
		// The goldens have three decimals.
		if got := order0Bytes(q); math.Abs(got-c.Order0) > 1e-3*max(1, c.Order0*1e-3) {
			t.Errorf("%s, tau %g, %d bits: %v bytes per token, want %v", c.Input, c.Tau, c.Bits, got, c.Order0)
		}
		n++
	}
	if n < 10 {
		t.Fatalf("%d cases, expected the 15 of gauss and one of llm", n)
	}
}

// TestDeviation is the worked example of arXiv 2511.04002's quantiser at tau 5
// and four bits: restored [.5 -1 1.5 -2.5 0 3.5 -7.25 .5].
func TestDeviation(t *testing.T) {
	m := compress.Matrix{Rows: 1, Cols: 8, Data: []float32{.30, -.90, 1.30, -2.60, 0, 3.50, -7.25, .70}}
	f, err := newFormat("packed", &Activations{Rows: m}, compress.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	d, err := f.restored(m)
	if err != nil {
		t.Fatal(err)
	}
	// Errors .2 .1 .2 .1 0 0 0 .2; squares of the values sum to 74.6525.
	if math.Abs(d.max-.2) > 1e-6 || math.Abs(d.mean-.1) > 1e-6 || math.Abs(d.snr-10*math.Log10(74.6525/.14)) > 1e-4 {
		t.Errorf("%+v", d)
	}
	m = compress.Matrix{Rows: 1, Cols: 3, Data: []float32{float32(math.NaN()), float32(math.Inf(1)), 2}}
	if f, err = newFormat("raw16", &Activations{Rows: m}, compress.DefaultOptions()); err != nil {
		t.Fatal(err)
	}
	if d, err = f.restored(m); err != nil || d.max != 0 || d.mean != 0 || !math.IsInf(d.snr, 1) {
		t.Errorf("%+v, %v: values that are not finite do not count", d, err)
	}
}

func TestCoders(t *testing.T) {
	coders, err := openCoders(Rivals())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range coders {
		for _, n := range []int{1000, 4096, 3*rivalBlock + 17} {
			symbols := gaussianStream(n, 15, 1.7, uint64(n))
			for range 2 { // the second time in used memory
				message, err := c.encode(symbols)
				if err != nil {
					t.Fatalf("%s: %v", c.name, err)
				}
				got, err := c.decode(message, n)
				if err != nil {
					t.Fatalf("%s: %v", c.name, err)
				}
				if !bytes.Equal(got, symbols) {
					t.Errorf("%s: %d symbols decode to others", c.name, n)
				}
			}
		}
	}
	for _, name := range []string{"huff0", "fse"} {
		one, err := openCoders([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := one[len(one)-1].encode(make([]byte, 4096)); !errors.Is(err, errNotCoded) {
			t.Errorf("%s: equal symbols: error %v", name, err)
		}
	}
	if _, err := openCoders([]string{"lzma"}); err == nil || err.Error() != `rival "lzma", expected one of zstd, huff0, fse` {
		t.Errorf("unknown rival: error %v", err)
	}
}

func TestGaussianStream(t *testing.T) {
	s := gaussianStream(1<<16, 15, 1.7, 1)
	var sum, squares float64
	for _, v := range s {
		if v > 14 {
			t.Fatalf("symbol %d, expected at most 14", v)
		}
		sum += float64(v)
		squares += float64(v) * float64(v)
	}
	mean := sum / float64(len(s))
	// Rounding adds 1/12 to the variance.
	if sd := math.Sqrt(squares/float64(len(s)) - mean*mean); math.Abs(mean-7) > .05 || math.Abs(sd-math.Sqrt(1.7*1.7+1./12)) > .05 {
		t.Errorf("mean %v, standard deviation %v", mean, sd)
	}
	if !bytes.Equal(s, gaussianStream(1<<16, 15, 1.7, 1)) {
		t.Error("a seed gives two streams")
	}
}

// counted keeps what does not depend on time.
func counted(list []results.Measurement) (out []results.Measurement) {
	for _, m := range list {
		if m.Rounds == 0 {
			out = append(out, m)
		}
	}
	return out
}

// tick is a clock by which every measurement takes one second.
func tick() func() float64 {
	now := 0.0
	return func() float64 { now++; return now }
}

func TestCodecReport(t *testing.T) {
	options := func() CodecOptions {
		few := Synthetic(6, 0, 48, 2)
		few.Name = "few"
		given := Synthetic(3, 40, 48, 3)
		given.Name = "given"
		many := Synthetic(80, 0, 48, 4)
		many.Name = "many"
		return CodecOptions{
			Inputs: []Activations{few, given, many}, Codecs: compress.CodecNames(), Rivals: []string{"huff0", "fse"},
			Tau: []float64{1, 5}, Bits: []int{2, 4}, Readings: compress.DefaultOptions(), Streams: 3000,
			Timing: Timing{Rounds: 2, Clock: tick()},
		}
	}
	r, err := Codec(context.Background(), options())
	if err != nil {
		t.Fatal(err)
	}
	again, err := Codec(context.Background(), options())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(counted(r.Measurements), counted(again.Measurements)) {
		t.Error("counted numbers of two runs differ")
	}
	var names []string
	for _, table := range r.Tables {
		names = append(names, fmt.Sprint(table.Name, " ", len(table.Rows)))
		for i, row := range table.Rows {
			if len(row) != len(table.Columns) {
				t.Errorf("table %s, row %d: %d values for %d columns", table.Name, i, len(row), len(table.Columns))
			}
		}
	}
	// Three inputs, four settings: three codecs each, raw16 once.
	if want := "sizes 39 speeds 78"; !strings.HasPrefix(strings.Join(names, " "), want) {
		t.Errorf("tables %v, want %s and coders", names, want)
	}
	for _, want := range []string{
		"few: split1 has its built-in tables, 6 rows are too few to train on some and measure on others.",
		"given: split1 is trained on 40 other rows.",
		"many: split1 is trained on the first 40 rows; all codecs are measured on the other 40.",
	} {
		if !slices.Contains(r.Notes, want) {
			t.Errorf("no note %q in %q", want, r.Notes)
		}
	}
	// The parts sum to what really was encoded.
	type key struct {
		input, codec string
		tau          float64
		bits         int32
		tokens       int32
	}
	parts, totals, seen := map[key]float64{}, map[key]float64{}, 0
	for _, m := range r.Measurements {
		if m.Bench != "codec" || m.Threads != 1 {
			t.Fatalf("%+v", m)
		}
		k := key{input: m.Input, codec: m.Subject}
		if m.Threshold != nil {
			k.tau, k.bits = *m.Threshold, *m.MaxActivationBits
		}
		if m.MessageTokens != nil {
			k.tokens = *m.MessageTokens
		}
		switch {
		case m.Table == "sizes" && slices.Contains([]string{"header", "tables", "codes", "side", "sparse"}, m.Metric):
			parts[k] += m.Value
		case m.Table == "sizes" && m.Metric == "total":
			totals[k] = m.Value
		case m.Table == "speeds" && m.Unit == "Msymbols/s":
			seen++
			rows := map[string]float64{"few": 6, "given": 3, "many": 40}[m.Input]
			if want := rows * 48e-6; math.Abs(m.Value-want) > 1e-12 { // one pass takes one second
				t.Errorf("%+v: %v, want %v", k, m.Value, want)
			}
		case m.Table == "coders" && m.Metric == "decode" && m.Subject == "fse":
			if m.Rival != "huff0" || m.Ratio == nil || *m.Ratio != 1 {
				t.Errorf("fse against %q: ratio %v", m.Rival, m.Ratio)
			}
		}
	}
	if seen != 2*78 {
		t.Errorf("%d rates, want %d", seen, 2*78)
	}
	if len(totals) != 78 {
		t.Errorf("%d totals, want 78", len(totals))
	}
	for k, total := range totals {
		if math.Abs(parts[k]-total) > 1e-9 {
			t.Errorf("%+v: parts sum to %v, total %v", k, parts[k], total)
		}
	}
	// One of them by hand.
	q := Synthetic(6, 0, 48, 2).Rows
	o := compress.DefaultOptions()
	c, err := compress.NewCodec("packed", o)
	if err != nil {
		t.Fatal(err)
	}
	msg, _, err := c.Encode(nil, q)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := totals[key{"few", "packed", 5, 4, 6}], float64(len(msg))/6; got != want {
		t.Errorf("packed: %v bytes per token, want %v", got, want)
	}
	var out bytes.Buffer
	if err := r.Markdown(&out); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n- "); n != len(r.Notes) {
		t.Errorf("%d notes printed, want %d", n, len(r.Notes))
	}
}

// TestTablesOfOtherWidth must not be sent into the codec.
func TestTablesOfOtherWidth(t *testing.T) {
	a := Synthetic(4, 100, 32, 1)
	o := compress.DefaultOptions()
	tr, err := compress.NewTrainer(32, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Add(a.Train); err != nil {
		t.Fatal(err)
	}
	if o.Tables, err = tr.Tables(); err != nil {
		t.Fatal(err)
	}
	options := CodecOptions{Inputs: []Activations{a}, Codecs: []string{"split1"}, Tau: []float64{5}, Bits: []int{4}, Readings: o, Timing: Timing{Rounds: 1, Clock: tick()}}
	r, err := Codec(context.Background(), options)
	if err != nil {
		t.Fatal(err)
	}
	if want := a.Name + ": split1 has the tables given."; !slices.Contains(r.Notes, want) {
		t.Errorf("no note %q in %q", want, r.Notes)
	}
	options.Inputs = []Activations{Synthetic(4, 0, 48, 1)}
	if _, err := Codec(context.Background(), options); err == nil || err.Error() != "synthetic 4x48 has rows of 48 values, the tables are for 32" {
		t.Errorf("error %v", err)
	}
}

func TestReadActivations(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, tensors ...checkpoint.NamedTensor) string {
		path := filepath.Join(dir, name)
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkpoint.WriteSafetensors(f, tensors, nil); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tensor := func(name string, first float32, shape ...int) checkpoint.NamedTensor {
		n := 1
		for _, d := range shape {
			n *= d
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = first + float32(i)
		}
		return checkpoint.NamedTensor{Name: name, Shape: shape, Data: v}
	}
	dump := write("dump.safetensors", tensor("10.hidden.3", 100, 1, 2), tensor("2.hidden.3", 20, 2, 2), tensor("2.logits", 0, 2, 5), tensor("2.hidden.4", 0, 1, 3))
	one := write("one.safetensors", tensor("x", 1, 2, 2, 2))
	empty := write("empty.safetensors", tensor("x", 1, 0, 2))

	a, err := ReadActivations(dump + ":*.hidden.3")
	if err != nil {
		t.Fatal(err)
	}
	// Sequence 2 comes before sequence 10.
	if want := (compress.Matrix{Rows: 3, Cols: 2, Data: []float32{20, 21, 22, 23, 100, 101}}); !reflect.DeepEqual(a.Rows, want) {
		t.Errorf("%+v, want %+v", a.Rows, want)
	}
	if a.Name != "dump.safetensors:*.hidden.3" {
		t.Errorf("name %q", a.Name)
	}
	if a, err = ReadActivations(one); err != nil || a.Rows.Rows != 4 || a.Rows.Cols != 2 {
		t.Errorf("one tensor of three dimensions: %+v, %v", a.Rows, err)
	}
	for name, want := range map[string]string{
		dump:                 "dump.safetensors holds 4 tensors, choose with ",
		dump + ":2.hidden.5": `dump.safetensors: no tensor "2.hidden.5", expected one of 10.hidden.3, 2.hidden.3, `,
		dump + ":*.hidden.*": "tensor 2.hidden.4: rows of 3 values, expected 2 as in 2.hidden.3",
		dump + ":[":          "syntax error in pattern",
		empty:                "tensor x: shape [0 2], expected at least one row and one column",
		filepath.Join(dir, "nowhere.safetensors") + ":x": "nowhere.safetensors does not exist",
	} {
		if _, err := ReadActivations(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", name, err, want)
		}
	}
}

func TestDivide(t *testing.T) {
	for _, c := range []struct{ rows, train, wantTrain, wantRows int }{{64, 0, 0, 64}, {65, 0, 32, 33}, {65, 1, 1, 65}} {
		a := Synthetic(c.rows, c.train, 4, 1)
		all := slices.Clone(a.Rows.Data)
		if a.Divide() != (c.wantRows < c.rows) || a.Train.Rows != c.wantTrain || a.Rows.Rows != c.wantRows {
			t.Errorf("%d rows and %d to train on: %d and %d", c.rows, c.train, a.Rows.Rows, a.Train.Rows)
		}
		if !slices.Equal(a.Rows.Data, all[len(all)-4*c.wantRows:]) {
			t.Errorf("%d rows: not the last ones are measured", c.rows)
		}
	}
}

// TestSynthetic looks for the tails that the text promises.
func TestSynthetic(t *testing.T) {
	a := Synthetic(400, 10, 1024, 7)
	massive, hot := 0, map[int]int{}
	for r := range a.Rows.Rows {
		for c, v := range a.Rows.Row(r) {
			switch x := math.Abs(float64(v)); {
			case x >= 500:
				massive++
			case x > 5:
				hot[c]++
			}
		}
	}
	if massive < 1 || massive > 15 { // 5 expected
		t.Errorf("%d massive values", massive)
	}
	frequent := 0
	for _, n := range hot {
		if n > 100 {
			frequent++
		}
	}
	if frequent < 1 || frequent > 2 {
		t.Errorf("%d hot channels, expected the two of 1024, or one chosen twice", frequent)
	}
	if b := Synthetic(400, 10, 1024, 7); !slices.Equal(a.Rows.Data, b.Rows.Data) || !slices.Equal(a.Train.Data, b.Train.Data) {
		t.Error("a seed gives two sets")
	}
}

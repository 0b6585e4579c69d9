package bench

import (
	"context"
	"math"
	osexec "os/exec"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"splitbench/compress"
	"splitbench/harness/exec"
	"splitbench/models/backend"
	"splitbench/models/backend/cpu"
	"splitbench/tasks"
)

// TestPresets compares with the published numbers of parameters of stories15M,
// stories110M and TinyLlama 1.1B, which have norms besides.
func TestPresets(t *testing.T) {
	for i, want := range []int64{15_191_712, 109_529_856, 1_100_048_384} {
		s := Presets[i]
		norms := int64(2*s.Layers+1) * int64(s.Hidden)
		if got := s.Parameters() + norms; got != want {
			t.Errorf("%s: %d parameters, want %d", s.Name, got, want)
		}
		if _, total := s.config().ParameterCount(); total != want {
			t.Errorf("%s: the configuration has %d parameters, want %d", s.Name, total, want)
		}
		if err := s.Check(); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
}

func TestShapeCheck(t *testing.T) {
	good := Shape{"x", 8, 1, 4, 2, 6, 5, false}
	for want, change := range map[string]func(s *Shape){
		"hidden 0, expected 1 to 65536":                           func(s *Shape) { s.Hidden = 0 },
		"vocab -1, expected 1 to 1048576":                         func(s *Shape) { s.Vocab = -1 },
		"vocab 3, expected at least 4":                            func(s *Shape) { s.Vocab = 3 },
		"hidden 8 with 3 heads, expected heads of an even width":  func(s *Shape) { s.Heads = 3 },
		"hidden 12 with 4 heads, expected heads of an even width": func(s *Shape) { s.Hidden = 12 },
		"heads 4 with 3 kv-heads, expected a multiple":            func(s *Shape) { s.KVHeads = 3 },
		"layers 1000000, expected 1 to 1024":                      func(s *Shape) { s.Layers = 1e6 },
		"intermediate 0, expected 1 to 262144":                    func(s *Shape) { s.Intermediate = 0 },
	} {
		s := good
		change(&s)
		if err := s.Check(); err == nil || err.Error() != want {
			t.Errorf("%+v: error %v, want %q", s, err, want)
		}
	}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
}

// TestPassFlops counts by hand: hidden 4, two heads on one, inner width 6. A
// layer has 4*(4+2+2+4) + 3*24 = 120 weights.
func TestPassFlops(t *testing.T) {
	s := Shape{"x", 4, 1, 2, 1, 6, 5, true}
	if n := s.layerWeights(); n != 120 {
		t.Errorf("%d weights, want 120", n)
	}
	for _, c := range []struct {
		lengths      []int
		from, scored int
		want         float64
	}{
		{[]int{3}, 0, 1, 2*3*120 + 4*4*(1+2+3) + 2*4*5},
		{[]int{1, 2}, 0, 2, 2*3*120 + 4*4*(1+1+2) + 2*2*4*5},
		{[]int{2}, 3, 0, 2*2*120 + 4*4*(4+5)},
	} {
		if got := s.passFlops(c.lengths, c.from, c.scored); got != c.want {
			t.Errorf("%v: %v operations, want %v", c.lengths, got, c.want)
		}
	}
	// Two inputs that share two tokens: these are computed once.
	r := []exec.Request{{Input: []int32{1, 2, 3}, Targets: []int32{3, 4}}, {Input: []int32{1, 2, 4, 5}, Targets: []int32{9}}}
	want := s.passFlops([]int{2}, 0, 0) + s.passFlops([]int{1}, 2, 2) + s.passFlops([]int{2}, 2, 1)
	if got := s.documentFlops(r); got != want {
		t.Errorf("%v operations, want %v", got, want)
	}
}

func TestMaps(t *testing.T) {
	if got, want := (Shape{"x", 8, 1, 4, 2, 6, 5, false}).maps(), []linearMap{{"q o", 8, 8}, {"k v", 4, 8}, {"gate up", 6, 8}, {"down", 8, 6}, {"head", 5, 8}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got, want := (Shape{"x", 8, 1, 4, 4, 6, 5, false}).maps(), []linearMap{{"q k v o", 8, 8}, {"gate up", 6, 8}, {"down", 8, 6}, {"head", 5, 8}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestRandomWeights(t *testing.T) {
	r := random{40, 256, 3}
	all := make([]float32, r.out*r.in)
	if err := r.fill(all, 0, r.out); err != nil {
		t.Fatal(err)
	}
	part := make([]float32, 3*r.in)
	if err := r.fill(part, 7, 10); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(part, all[7*r.in:10*r.in]) {
		t.Error("rows differ when others are written before them")
	}
	var sum, squares float64
	for _, v := range all {
		sum += float64(v)
		squares += float64(v) * float64(v)
	}
	n := float64(len(all))
	if mean, sd := sum/n, math.Sqrt(squares/n); math.Abs(mean) > .002 || math.Abs(sd-1./16) > .001 {
		t.Errorf("mean %v and standard deviation %v, want 0 and 1/16", mean, sd)
	}
	other := make([]float32, len(part))
	if err := (random{40, 256, 4}).fill(other, 7, 10); err != nil {
		t.Fatal(err)
	}
	if slices.Equal(other, part) {
		t.Error("two seeds give the same weights")
	}
}

var tiny = Shape{"tiny", 16, 2, 4, 2, 24, 40, false}

func newBackend(t *testing.T) *cpu.Backend {
	t.Helper()
	b, err := cpu.New(cpu.Options{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// TestBuildModel compares the rows of an embedding with the generator, and the
// quantised weights' bytes with those of the quantiser.
func TestBuildModel(t *testing.T) {
	b := newBackend(t)
	for i, tied := range []bool{false, true, false} {
		s := tiny
		s.Tied = tied
		w := weightTypes[i/2]
		m, err := buildModel(b, s, w, 0)
		if err != nil {
			t.Fatal(err)
		}
		// Panels of whole vectors may round dimensions up.
		if least := int64(w.bits) / 8 * s.Parameters(); m.total < least || m.total > 3*least {
			t.Errorf("tied %v: %d bytes of weights, expected about %d", tied, m.total, least)
		}
		f, err := m.forward(1)
		if err != nil {
			t.Fatal(err)
		}
		c, err := m.model.NewCache(3)
		if err != nil {
			t.Fatal(err)
		}
		f.batch.Add([]int32{7}, 0, c)
		x, err := m.model.Embed(&f.work, &f.batch)
		if err != nil {
			t.Fatal(err)
		}
		got, want := make([]float32, s.Hidden), make([]float32, s.Hidden)
		b.Download(got, x)
		if err := (random{s.Vocab, s.Hidden, 1}).fill(want, 7, 8); err != nil {
			t.Fatal(err)
		}
		if w.name == "bf16" { // rounded: a value apart from its neighbours by 2^-7 of itself or less
			for i, v := range want {
				if d := math.Abs(float64(got[i] - v)); d <= math.Abs(float64(v))*0x1p-8 && math.Float32bits(got[i])&0xffff == 0 {
					want[i] = got[i]
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("embedding of token 7: %v, want %v", got, want)
		}
	}
	r := random{24, 32, 5}
	p, err := r.pack(4, 16)
	if err != nil {
		t.Fatal(err)
	}
	values := make([]float32, 24*32)
	if err := r.fill(values, 0, 24); err != nil {
		t.Fatal(err)
	}
	q, err := compress.QuantiseWeights(values, 24, 32, compress.WeightScheme{Bits: 4, Group: 16})
	if err != nil {
		t.Fatal(err)
	}
	if want := (backend.Packed{Out: 24, In: 32, Bits: 4, Group: 16, Codes: q.Codes, Scales: q.Scales, Zeros: q.Zeros}); !reflect.DeepEqual(p, want) {
		t.Error("packed weights are not those of the quantiser")
	}
}

// TestPassesAgree computes the same logits as one prefill, as two sequences of a
// ragged one, and token by token.
func TestPassesAgree(t *testing.T) {
	b := newBackend(t)
	for _, w := range weightTypes {
		m, err := buildModel(b, tiny, w, 8)
		if err != nil {
			t.Fatal(err)
		}
		ids := randomIDs(9, tiny.Vocab)
		logits := func(add func(f *forward), sequences int) []float32 {
			f, err := m.forward(sequences)
			if err != nil {
				t.Fatal(err)
			}
			add(f)
			out := make([]float32, sequences*tiny.Vocab)
			b.Download(out, f.logits)
			return out
		}
		step := func(f *forward, from, to int, c backend.Cache) {
			f.batch.Add(ids[from:to], from, c)
		}
		cache := func() backend.Cache {
			c, err := m.model.NewCache(len(ids))
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		whole := logits(func(f *forward) {
			step(f, 0, 9, cache())
			if err := f.run(); err != nil {
				t.Fatal(err)
			}
		}, 1)
		two := logits(func(f *forward) {
			step(f, 0, 5, cache())
			step(f, 0, 9, cache())
			if err := f.run(); err != nil {
				t.Fatal(err)
			}
		}, 2)
		single := logits(func(f *forward) {
			c := cache()
			for i := range ids {
				f.batch.Reset()
				step(f, i, i+1, c)
				if err := f.run(); err != nil {
					t.Fatal(err)
				}
			}
		}, 1)
		if !slices.Equal(whole, two[tiny.Vocab:]) || !slices.Equal(whole, single) {
			t.Errorf("%s: prefill, ragged and decode give different logits", w.name)
		}
		if slices.Equal(two[:tiny.Vocab], two[tiny.Vocab:]) {
			t.Errorf("%s: two different sequences give the same logits", w.name)
		}
	}
}

func TestRaggedLengths(t *testing.T) {
	for _, n := range []int{1, 7, 512, 4096} {
		sum := 0
		l := raggedLengths(n)
		for i, v := range l {
			sum += v
			if v < 1 || v > 128 || v < 8 && i < len(l)-1 {
				t.Errorf("%d tokens: sequence of %d", n, v)
			}
		}
		if sum != n {
			t.Errorf("%d tokens: %d in sequences", n, sum)
		}
	}
}

// words is a tokenizer of letters, with more of them than the model has tokens.
type words struct{}

func (words) Encode(text string, special bool) (ids []int32) {
	if special {
		ids = append(ids, 1)
	}
	for _, r := range text {
		ids = append(ids, r)
	}
	return ids
}
func (w words) EncodeParsed(text string, special bool) []int32 { return w.Encode(text, special) }
func (words) Decode([]int32) (string, error)                   { return "", nil }
func (words) Size() int                                        { return 1 << 16 }
func (words) Token(int32) (string, bool)                       { return "", false }
func (words) BOS() (int32, bool)                               { return 1, true }
func (words) EOS() (int32, bool)                               { return 2, true }
func (words) BOSText() string                                  { return "" }
func (words) Kind() string                                     { return "letters" }
func (words) Digest() string                                   { return "" }

func dataset() *tasks.Dataset {
	d := &tasks.Dataset{Protocol: tasks.JointBOS}
	for i, context := range []string{"abc", "xy"} {
		doc := tasks.Doc{ID: i, Choices: []string{"d", "efg"}}
		for _, c := range doc.Choices {
			doc.Requests = append(doc.Requests, tasks.Request{Context: context, Continuation: " " + c})
		}
		d.Docs = append(d.Docs, doc)
	}
	return d
}

func TestRequests(t *testing.T) {
	u := run{CPUOptions: &CPUOptions{HellaSwag: HellaSwag{Data: dataset(), Tokenizer: words{}}}}
	list, documents, err := u.requests(40)
	if err != nil {
		t.Fatal(err)
	}
	// BOS 1, then abc = 97 98 99 and " d" = 32 100, all modulo 40; the model
	// does not read the last one.
	want := exec.Request{Input: []int32{1, 17, 18, 19, 32}, Targets: []int32{32, 20}}
	if len(list) != 4 || !reflect.DeepEqual(list[0], want) {
		t.Errorf("%+v, want %+v first", list, want)
	}
	if len(documents) != 2 || len(documents[1]) != 2 || !reflect.DeepEqual(documents[1][1], list[3]) {
		t.Errorf("documents %+v", documents)
	}
}

// TestCPUReport runs everything on a tiny model by a clock on which every
// measurement takes one second.
func TestCPUReport(t *testing.T) {
	o := CPUOptions{
		Shapes: []Shape{tiny}, Threads: []int{1, 2}, Types: WeightTypes(), Measure: CPUMeasurements(),
		Rows: []int{1, 3}, Tokens: 20, Decode: 4, Group: 8, Cold: 1 << 12, Buffer: 1 << 16, Peak: time.Millisecond,
		Timing: Timing{Rounds: 2, Clock: tick()}, HellaSwag: HellaSwag{Data: dataset(), Tokenizer: words{}, Rounds: 1},
	}
	r, err := CPU(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	types := len(WeightTypes())
	full := 0 // types that the head has, too
	for _, w := range weightTypes {
		if w.other == nil {
			full++
		}
	}
	maps := 2 * (4*types + full)
	want := map[string]int{"limits": 2, GEMM: maps, GEMV: maps, "passes": 2 * 3 * types, PassHellaSwag: 2 * types}
	for _, table := range r.Tables {
		if len(table.Rows) != want[table.Name] {
			t.Errorf("table %s: %d rows, want %d", table.Name, len(table.Rows), want[table.Name])
		}
		delete(want, table.Name)
		for i, row := range table.Rows {
			if len(row) != len(table.Columns) {
				t.Errorf("table %s, row %d: %d values for %d columns", table.Name, i, len(row), len(table.Columns))
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("tables missing: %v", want)
	}
	checked := map[string]int{}
	for _, m := range r.Measurements {
		check := func(want float64) {
			checked[m.Metric]++
			if math.Abs(m.Value-want) > 1e-12*want {
				t.Errorf("%s %s %s: %v %s, want %v", m.Table, m.Weights, m.Metric, m.Value, m.Unit, want)
			}
		}
		switch m.Table + " " + m.Metric {
		case "gemm rate":
			check(2e-9 * float64(*m.Rows) * float64(*m.Out) * float64(*m.In))
		case "passes prefill", "passes ragged":
			check(20)
		case "passes decode":
			check(4)
		case "hellaswag time":
			check(1)
		case "hellaswag tokens":
			check(5 + 7 + 4 + 6)
		}
		if m.Bench != "cpu" || m.Threads != 1 && m.Threads != 2 {
			t.Errorf("%+v", m)
		}
	}
	if checked["rate"] != 2*maps || checked["prefill"] != 2*types || checked["ragged"] != 2*types || checked["decode"] != 2*types || checked["time"] != 2*types {
		t.Errorf("checked %v", checked)
	}

	o.Memory = 1000
	if _, err := CPU(context.Background(), o); err == nil || !strings.HasPrefix(err.Error(), "a tiny model in fp32 needs 0.0") {
		t.Errorf("too little memory: error %v", err)
	}
	o.Measure = []string{GEMM}
	if _, err := CPU(context.Background(), o); err != nil {
		t.Errorf("no model is needed: error %v", err)
	}
}

// TestNeeds bounds the estimate by what weights occupy.
func TestNeeds(t *testing.T) {
	for _, s := range Presets {
		for _, w := range weightTypes {
			least := s.Parameters() * int64(w.bits) / 8
			if got := s.needs(w, 32, 512); got < least || got > 5*s.Parameters()+1<<30 {
				t.Errorf("%s %s: %d bytes, expected above %d", s.Name, w.name, got, least)
			}
		}
	}
}

func TestRival(t *testing.T) {
	if _, err := osexec.LookPath("sh"); err != nil {
		t.Skip("no shell")
	}
	measure := func(r Rival, work float64) (float64, error) {
		return r.contestant(context.Background(), 3, work).Report()
	}
	number := regexp.MustCompile(`(?m)^pp.* ([0-9.,]+)$`)
	for _, c := range []struct {
		rival Rival
		want  float64
	}{
		{Rival{Command: "echo pp 1; echo pp 1,024.5; echo tg 7", Pattern: number, Pass: PassPrefill}, 512 / 1024.5},
		{Rival{Command: "echo pp {threads}", Pattern: number, Pass: PassDecode}, 512. / 3},
		{Rival{Command: "echo pp 25.5 >&2", Pattern: number, Pass: PassHellaSwag}, 25.5},
	} {
		if got, err := measure(c.rival, 512); err != nil || math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %v seconds, %v, want %v", c.rival.Command, got, err, c.want)
		}
	}
	if got, err := measure(Rival{Command: "true"}, 1); err != nil || got <= 0 {
		t.Errorf("the program's own time: %v, %v", got, err)
	}
	for command, want := range map[string]string{
		"echo so; echo no such model; exit 3": `"echo so; echo no such model; exit 3": exit status 3 ("no such model")`,
		"echo tg 5":                           `"echo tg 5": no match for the pattern "(?m)^pp.* ([0-9.,]+)$" in its output ("tg 5")`,
		"echo pp ..":                          `"echo pp ..": the pattern found "..", expected a positive number`,
		"echo pp 0":                           `"echo pp 0": the pattern found "0", expected a positive number`,
	} {
		if _, err := measure(Rival{Command: command, Pattern: number}, 1); err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", command, err, want)
		}
	}
}

func TestTail(t *testing.T) {
	var w tail
	w.Write([]byte("begin"))
	big := strings.Repeat("x", maxRivalOutput-2)
	w.Write([]byte(big))
	w.Write([]byte("end"))
	if w.Len() != maxRivalOutput || !strings.HasSuffix(w.String(), "xend") || strings.Contains(w.String(), "begin") {
		t.Errorf("%d bytes kept", w.Len())
	}
}

// TestRivalRow looks at the ratio in table and measurements.
func TestRivalRow(t *testing.T) {
	if _, err := osexec.LookPath("sh"); err != nil {
		t.Skip("no shell")
	}
	o := CPUOptions{
		Shapes: []Shape{tiny}, Threads: []int{1}, Types: []string{"fp32"}, Measure: []string{PassPrefill, PassDecode},
		Rows: []int{1}, Tokens: 20, Decode: 4, Buffer: 1 << 16, Peak: time.Millisecond, Timing: Timing{Rounds: 3, Clock: tick()},
		Rival: Rival{Command: "echo 8 tok/s", Pattern: regexp.MustCompile(`(\d+) tok`), Pass: PassPrefill},
	}
	r, err := CPU(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, m := range r.Measurements {
		if m.Rival == "echo 8 tok/s" {
			found++
			if m.Metric != PassPrefill || *m.Ratio != 20./8 {
				t.Errorf("%s: ratio %v, want %v", m.Metric, *m.Ratio, 20./8)
			}
		}
		if m.Subject == "echo 8 tok/s" && m.Value != 8 {
			t.Errorf("the rival: %v, want 8", m.Value)
		}
	}
	if found != 1 {
		t.Errorf("%d ratios, want 1", found)
	}
	table := r.Tables[len(r.Tables)-1]
	for i, c := range table.Columns {
		if c.Name == "x rival" && (table.Rows[0][i].Number == nil || *table.Rows[0][i].Number != 2.5 || table.Rows[1][i].Text != none) {
			t.Errorf("column %s: %+v, %+v", c.Name, table.Rows[0][i], table.Rows[1][i])
		}
	}
}

package quantise

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"splitbench/models/backend"
	"splitbench/models/backend/cpu"
	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/quantize"
)

// rotated writes the model of a checkpoint in another basis and opens it.
func rotated(t *testing.T, c *checkpoint.Checkpoint, be backend.Backend, q []float64) (*checkpoint.Checkpoint, *decoder.Model) {
	t.Helper()
	dir := t.TempDir()
	if err := Rotate(context.Background(), c, q, NewRotated(dir, c.Dir, "note of the test")); err != nil {
		t.Fatal(err)
	}
	r, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	m, err := decoder.Load(r, be)
	if err != nil {
		t.Fatal(err)
	}
	return r, m
}

// TestRotateFamilies turns models with biases, fused matrices, tied heads,
// windows and partial rotation by a random orthogonal matrix: logits stay within
// 1e-4, losses within 1e-6, and the checkpoint is an ordinary one in float32.
func TestRotateFamilies(t *testing.T) {
	be, err := cpu.New(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	for _, name := range []string{"llama31-gqa", "llama-tied-linear-bias", "llama2-mha-bf16", "qwen2-tied", "qwen2-swa", "mistral-nemo", "phi4", "phi3-partial"} {
		t.Run(name, func(t *testing.T) {
			c, err := checkpoint.Open(shared(t, "golden", "models", name))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			original, err := decoder.Load(c, be)
			if err != nil {
				t.Fatal(err)
			}
			r := quantize.NewRandom(2)
			sequences := make([][]int32, 3)
			for i := range sequences {
				for range 24 {
					sequences[i] = append(sequences[i], int32(r.Below(uint64(c.Config.VocabSize))))
				}
			}
			written, model := rotated(t, c, be, quantize.RandomOrthogonal(c.Config.HiddenSize, 3))
			same, err := Compare(context.Background(), original, model, sequences)
			if err != nil {
				t.Fatal(err)
			}
			if !(same.Logit < 1e-4) || same.Logit == 0 || !(math.Abs(same.Losses[0]-same.Losses[1]) < 1e-6) {
				t.Errorf("%+v", same)
			}
			for _, n := range written.Names() {
				w, err := written.Tensor(n)
				if err != nil {
					t.Fatal(err)
				}
				if w.DType != checkpoint.F32 {
					t.Errorf("%s is %s", n, w.DType)
				}
				if !strings.Contains(n, "norm") {
					continue
				}
				v, err := w.Float32(nil)
				if err != nil || slices.Min(v) != 1 || slices.Max(v) != 1 {
					t.Errorf("%s is not all ones: %v", n, err)
				}
			}
			config, err := os.ReadFile(filepath.Join(written.Dir, "config.json"))
			if err != nil {
				t.Fatal(err)
			}
			var keys struct {
				Note string `json:"change_of_basis"`
				Tied *bool  `json:"tie_word_embeddings"`
			}
			if err := json.Unmarshal(config, &keys); err != nil || keys.Note != "note of the test" || keys.Tied == nil || *keys.Tied {
				t.Errorf("config %s: %v", config, err)
			}
		})
	}
}

// TestRotateByHand: gains 2 and 1/2, basis (0.6, 0.8), (-0.8, 0.6).
func TestRotateByHand(t *testing.T) {
	r := &rotation{q: []float64{0.6, -0.8, 0.8, 0.6}, n: 2, once: true}
	if err := checkRotation(r.q, 2); err != nil {
		t.Fatal(err)
	}
	gains := func() []float32 { return []float32{2, 0.5} }
	b := &Block{Norms: [2][]float32{gains(), gains()}}
	for i := range b.Linears {
		b.Linears[i] = Linear{Out: 2, In: 2, Values: []float32{1, 1, 3, 4}, Bias: []float32{10, -5}}
	}
	r.block(b)
	near := func(what string, have []float32, want ...float64) {
		t.Helper()
		for i, w := range want {
			if len(have) != len(want) || !(math.Abs(float64(have[i])-w) < 1e-6) {
				t.Errorf("%s is %v, expected %v", what, have, want)
				return
			}
		}
	}
	for i := range b.Linears {
		l := &b.Linears[i]
		if i == decoder.OutputMap || i == decoder.DownMap {
			// Columns (1, 3) and (1, 4), and the bias (10, -5), times qᵀ.
			near(linearNames[i], l.Values, 3, 3.8, 1, 1.6)
			near(linearNames[i]+" bias", l.Bias, 2, -11)
		} else {
			// Rows (2, 0.5) and (6, 2) times q.
			near(linearNames[i], l.Values, 1.6, -1.3, 5.2, -3.6)
			near(linearNames[i]+" bias", l.Bias, 10, -5)
		}
	}
	near("norms", slices.Concat(b.Norms[:]...), 1, 1, 1, 1)
	config := checkpoint.Config{TiedEmbeddings: true}
	e := &Ends{Embedding: []float32{1, 2}, FinalNorm: gains()}
	r.ends(&config, e, false)
	near("embedding", e.Embedding, 2.2, 0.4)
	near("head", e.Head, 2, -1) // (2, 1) times q
	near("final norm", e.FinalNorm, 1, 1)
	if config.TiedEmbeddings {
		t.Error("the head is still the embedding")
	}
}

// TestPrincipalAxes turns a trained model into its axes: its second moment there
// is diagonal and holds the eigenvalues, and the kurtosis grows as known
// (from 3.5 to 37 on stories).
func TestPrincipalAxes(t *testing.T) {
	const layer = 3
	g := openGolden(t, "babyllama")
	ctx := context.Background()
	sequences := g.evaluation[:8]
	original, err := decoder.Load(g.c, g.be)
	if err != nil {
		t.Fatal(err)
	}
	for _, skip := range []bool{false, true} {
		a, err := PrincipalAxes(ctx, original, sequences, layer, skip)
		if err != nil {
			t.Fatal(err)
		}
		_, model := rotated(t, g.c, g.be, a.Rotation)
		same, err := Compare(ctx, original, model, sequences)
		if err != nil {
			t.Fatal(err)
		}
		if !(same.Logit < 1e-4) || !(math.Abs(same.Losses[0]-same.Losses[1]) < 1e-6) {
			t.Errorf("%+v", same)
		}
		n := g.c.Config.HiddenSize
		moment := make([]float64, n*n)
		rows := 0
		err = eachStream(ctx, model, sequences, func(k int, x []float32) error {
			if k != layer {
				return nil
			}
			if skip {
				x = x[n:]
			}
			for ; len(x) > 0; x = x[n:] {
				rows++
				for i, v := range x[:n] {
					for j, w := range x[:n] {
						moment[i*n+j] += float64(v) * float64(w)
					}
				}
			}
			return nil
		})
		if err != nil || rows != a.Rows {
			t.Fatalf("%d rows, axes of %d: %v", rows, a.Rows, err)
		}
		for i, v := range moment {
			want := 0.0
			if i/n == i%n {
				want = a.Eigenvalues[i/n]
			}
			if !(math.Abs(v/float64(rows)-want) < 1e-5*a.Eigenvalues[0]) {
				t.Fatalf("second moment (%d, %d) is %v, expected %v", i/n, i%n, v/float64(rows), want)
			}
		}
		o := MagnitudeOptions{SkipFirst: skip}
		before, err := Measure(ctx, original, sequences, o)
		if err != nil {
			t.Fatal(err)
		}
		after, err := Measure(ctx, model, sequences, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("kurtosis after layer %d: %.2f, in its axes %.2f; energy in the top 10 %% of the channels %.3f, %.3f", layer, before[layer].Kurtosis, after[layer].Kurtosis, before[layer].Top(13), after[layer].Top(13))
		if k, r := before[layer].Kurtosis, after[layer].Kurtosis; !skip && !(math.Abs(k-3.5) < .2 && math.Abs(r-37) < 4) {
			t.Errorf("kurtosis %v, in the axes %v, expected 3.5 and 37", k, r)
		}
		for k := range before {
			if !(after[k].Top(13) > 1.5*before[k].Top(13)) || !(math.Abs(after[k].RMS/before[k].RMS-1) < 1e-5) {
				t.Errorf("layer %d: %v of the energy in 13 channels, %v before; RMS %v, %v", k, after[k].Top(13), before[k].Top(13), after[k].RMS, before[k].RMS)
			}
		}
	}
	if _, err := PrincipalAxes(ctx, original, sequences, 6, false); err == nil || !strings.Contains(err.Error(), "expected 1..5") {
		t.Errorf("layer 6: error %v", err)
	}
	if _, err := PrincipalAxes(ctx, original, [][]int32{{1}}, 1, true); err == nil || !strings.Contains(err.Error(), "no tokens") {
		t.Errorf("no rows: error %v", err)
	}
	if _, err := PrincipalAxes(ctx, original, [][]int32{{1}, {}}, 1, false); err == nil || !strings.Contains(err.Error(), "sequence 2") {
		t.Errorf("empty sequence: error %v", err)
	}
}

// TestRotateBits holds the bytes of a rotation, axes included, that every
// processor must give.
func TestRotateBits(t *testing.T) {
	const want = "be57080c3aaef0458fd3010be2eeae22b909ba0cb47dc14411bb6be0bb470d85"
	g := openGolden(t, "tiny/gqa")
	original, err := decoder.Load(g.c, g.be)
	if err != nil {
		t.Fatal(err)
	}
	a, err := PrincipalAxes(context.Background(), original, g.calibration[:2], 1, false)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := rotated(t, g.c, g.be, a.Rotation)
	h := sha256.New()
	files, err := filepath.Glob(filepath.Join(c.Dir, "*.safetensors"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		h.Write(b)
	}
	if have := hex.EncodeToString(h.Sum(nil)); have != want {
		t.Errorf("digest %s, expected %s", have, want)
	}
}

// TestMagnitudes compares with the definitions on all values together.
func TestMagnitudes(t *testing.T) {
	g := openGolden(t, "tiny/mha")
	ctx := context.Background()
	model, err := decoder.Load(g.c, g.be)
	if err != nil {
		t.Fatal(err)
	}
	sequences := g.evaluation[:3]
	n := g.c.Config.HiddenSize
	o := MagnitudeOptions{Thresholds: []float64{0, .05, .5}, Shares: []float64{.1, .01, 1e-9}}
	for _, skip := range []bool{false, true} {
		o.SkipFirst = skip
		have, err := Measure(ctx, model, sequences, o)
		if err != nil {
			t.Fatal(err)
		}
		values := make([][]float64, g.c.Config.Layers+1)
		first := make([]float64, len(values))
		whole := make([]float64, len(values))
		err = eachStream(ctx, model, sequences, func(k int, rows []float32) error {
			for i, v := range rows {
				x := float64(v)
				whole[k] += x * x
				if i < n {
					first[k] += x * x
				}
				if i >= n || !skip {
					values[k] = append(values[k], x)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		near := func(what string, k int, have, want float64) {
			t.Helper()
			if !(math.Abs(have-want) <= 1e-9*math.Abs(want)) {
				t.Errorf("layer %d: %s is %v, expected %v", k, what, have, want)
			}
		}
		for k, m := range have {
			x := values[k]
			count := float64(len(x))
			var mean, second, fourth, square float64
			for _, v := range x {
				mean += v / count
				square += v * v
			}
			energy := make([]float64, n)
			sizes := make([]float64, len(x))
			for i, v := range x {
				second += (v - mean) * (v - mean) / count
				fourth += math.Pow(v-mean, 4) / count
				energy[i%n] += v * v / square
				sizes[i] = math.Abs(v)
			}
			slices.SortFunc(sizes, func(a, b float64) int { return cmp.Compare(b, a) })
			slices.Sort(energy)
			slices.Reverse(energy)
			near("kurtosis", k, m.Kurtosis, fourth/(second*second))
			near("RMS", k, m.RMS, math.Sqrt(square/count))
			near("max", k, m.Max, sizes[0])
			near("position 0", k, m.First, first[k]/whole[k])
			near("top channel", k, m.Top(1), energy[0])
			near("top three", k, m.Top(3), energy[0]+energy[1]+energy[2])
			near("all channels", k, m.Top(n+1), 1)
			for j, tau := range o.Thresholds {
				above := 0
				for _, v := range sizes {
					if v >= float64(float32(tau)) {
						above++
					}
				}
				near("above", k, m.Above[j], float64(above)/count)
			}
			for j, share := range o.Shares {
				exact := sizes[int(math.Ceil(share*count))-1]
				if r := m.Reached[j]; !(r <= exact && r > exact*(1-1.0/128)) {
					t.Errorf("layer %d: %v of the values reach %v, expected %v", k, share, r, exact)
				}
			}
			if m.Layer != k || m.Rows != len(x)/n {
				t.Errorf("layer %d: %d rows of layer %d", k, m.Rows, m.Layer)
			}
		}
	}
}

// TestMoments: 0 0 0 4 has the mean 1, the variance 3 and the fourth moment 21.
func TestMoments(t *testing.T) {
	o := MagnitudeOptions{Thresholds: []float64{4}, Shares: []float64{.25, .5}}
	l := newMoments(2, o)
	l.add([]float32{0, 0, 0, -4}, 2, o)
	m := l.magnitudes(7, 2, o)
	if m.Kurtosis != 21.0/9 || m.Max != 4 || m.RMS != 2 || m.Above[0] != .25 || !slices.Equal(m.Energy, []float64{1, 0}) || !slices.Equal(m.Reached, []float64{4, 0}) || m.First != 0 || m.Rows != 2 {
		t.Errorf("%+v", m)
	}
	l = newMoments(1, o)
	l.add([]float32{0, 0}, 1, o)
	if m := l.magnitudes(0, 1, o); m.Kurtosis != 0 || m.Max != 0 || m.Energy[0] != 0 {
		t.Errorf("zeros: %+v", m)
	}
}

// TestRotationFile writes a matrix and reads it back, and refuses what is none.
func TestRotationFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "q.safetensors")
	q := quantize.RandomOrthogonal(9, 1)
	if err := SaveRotation(path, q, 9); err != nil {
		t.Fatal(err)
	}
	if have, err := LoadRotation(path, 9); err != nil || !slices.Equal(have, q) {
		t.Errorf("another matrix comes back: %v", err)
	}
	narrow := make([]float32, len(q))
	for i, v := range q {
		narrow[i] = float32(v)
	}
	write := func(name string, shape []int, data any) {
		t.Helper()
		if err := writeFile(path, []checkpoint.NamedTensor{{Name: name, Shape: shape, Data: data}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	write("rotation", []int{9, 9}, narrow)
	have, err := LoadRotation(path, 9)
	if err != nil || have[5] != float64(narrow[5]) {
		t.Errorf("float32: %v", err)
	}
	narrow[5] = float32(math.NaN())
	for want, do := range map[string]func(){
		"no tensor rotation":                    func() { write("matrix", []int{9, 9}, q) },
		"shape [3 27], expected [9 9]":          func() { write("rotation", []int{3, 27}, q) },
		"has dtype I32":                         func() { write("rotation", []int{9, 9}, make([]int32, 81)) },
		"NaN":                                   func() { write("rotation", []int{9, 9}, narrow) },
		"columns 0 and 0 have the product 0, e": func() { write("rotation", []int{9, 9}, make([]float64, 81)) },
	} {
		do()
		if _, err := LoadRotation(path, 9); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("error %v, expected %q", err, want)
		}
	}
	g := openGolden(t, "tiny/gqa")
	n := g.c.Config.HiddenSize
	for _, bad := range [][]float64{q, make([]float64, n*n)} {
		if err := Rotate(context.Background(), g.c, bad, NewRotated(dir, g.c.Dir, "")); err == nil || !strings.Contains(err.Error(), "rotation") {
			t.Errorf("error %v", err)
		}
	}
}

// FuzzRotation reads any bytes as the file of a rotation: an error or an
// orthogonal matrix, never a panic.
func FuzzRotation(f *testing.F) {
	path := filepath.Join(f.TempDir(), "q.safetensors")
	for _, t := range []checkpoint.NamedTensor{
		{Name: "rotation", Shape: []int{2, 2}, Data: []float64{.6, -.8, .8, .6}},
		{Name: "rotation", Shape: []int{2, 2}, Data: []float32{0, 1, 1, 0}},
		{Name: "rotation", Shape: []int{4}, Data: []float64{1, 0, 0, 1}},
	} {
		var b bytes.Buffer
		if err := checkpoint.WriteSafetensors(&b, []checkpoint.NamedTensor{t}, nil); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		if err := os.WriteFile(path, file, 0o644); err != nil {
			t.Fatal(err)
		}
		q, err := LoadRotation(path, 2)
		if err == nil && !(math.Abs(math.Abs(q[0]*q[3]-q[1]*q[2])-1) < 1e-5) {
			t.Errorf("determinant of %v", q)
		}
	})
}

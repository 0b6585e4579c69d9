package sim

import (
	"errors"
	"math"
	"strings"
	"testing"
)

// value returns a size or fails the test.
func value(t *testing.T) func(n int64, err error) int64 {
	return func(n int64, err error) int64 {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
}

// The vectors of Eq. 1 to 3 were computed outside this program, in two other languages.

func TestWeightBits(t *testing.T) {
	v := value(t)
	for _, test := range []struct {
		model        string
		bits         int64
		plain, group int64 // bytes
	}{
		{"Llama-2-7B", 4, 3238133760, 3339714560},
		{"Llama-2-7B", 8, 6476267520, 6577717248},
		{"Llama-2-7B", 16, 12952535040, 12952535040},
		{"Llama-2-13B", 4, 6344089600, 6542950400},
		{"Llama-2-13B", 8, 12688179200, 12886835200},
		{"Llama-2-13B", 16, 25376358400, 25376358400},
	} {
		s := shapeOf(t, test.model)
		p := Uniform(s, test.bits, 16)
		if got := v(WeightBits(s, p, s.Layers, Readings{})) / 8; got != test.plain {
			t.Errorf("%s at %d bits, plain: %d bytes, want %d", test.model, test.bits, got, test.plain)
		}
		if got := v(WeightBits(s, p, s.Layers, Readings{Weights: Grouped})) / 8; got != test.group {
			t.Errorf("%s at %d bits, grouped: %d bytes, want %d", test.model, test.bits, got, test.group)
		}
	}
	// A true split holds the front only.
	for model, want := range map[string]int64{"Llama-2-7B": 2023833600, "Llama-2-13B": 3172044800} {
		s := shapeOf(t, model)
		p := Precision{PrecisionLayer: 20, FrontWeightBits: 4, BackWeightBits: 16, FrontActivationBits: 4, BackActivationBits: 4}
		if got := v(WeightBits(s, p, 20, Readings{EdgeHolds: FrontOnly})) / 8; got != want {
			t.Errorf("%s, 20 layers at 4 bits: %d bytes, want %d", model, got, want)
		}
	}
	// Mixed by hand: a block of 10 parameters, 2 layers at 3 bits, 3 at 8; of 4 held layers 2 at 8.
	s := Shape{Layers: 5, Hidden: 1, KVWidth: 1, LayerParameters: 10, LayerLinear: 9, LayerGroups: 2}
	p := Precision{2, 3, 8, 4, 4}
	if got := v(WeightBits(s, p, 4, Readings{})); got != 2*30+3*80 {
		t.Errorf("mixed: %d bits, want 300", got)
	}
	if got := v(WeightBits(s, p, 4, Readings{EdgeHolds: FrontOnly})); got != 2*30+2*80 {
		t.Errorf("mixed, front only: %d bits, want 220", got)
	}
	// Grouped: 9 linear at 3 bits, 2 groups and 1 other parameter at 16.
	if got := v(LayerWeightBits(s, 3, Grouped)); got != 27+32+16 {
		t.Errorf("grouped block: %d bits, want 75", got)
	}
}

func TestCacheBits(t *testing.T) {
	v := value(t)
	mixed := func(s Shape) Precision { return Precision{20, 4, 16, 8, 4} }
	all := func(bits int64) func(Shape) Precision {
		return func(s Shape) Precision { return Uniform(s, 4, bits) }
	}
	for _, test := range []struct {
		model              string
		tokens, splitLayer int64
		precision          func(Shape) Precision
		readings           Readings
		want               int64
	}{
		{"Llama-2-7B", 250, 20, all(16), Readings{}, 1047068672},
		{"Llama-2-7B", 250, 20, all(4), Readings{}, 261767168},
		{"Llama-2-7B", 350, 20, all(16), Readings{}, 1466499072},
		{"Llama-2-7B", 250, 20, mixed, Readings{}, 417415168},
		{"Llama-2-7B", 250, 20, mixed, Readings{CacheBoundary: Inclusive}, 425623552},
		{"Llama-2-7B", 1, 1, all(4), Readings{}, 49152},
		{"Llama-2-7B", 1, 32, all(4), Readings{}, 1064960},
		{"Llama-2-13B", 350, 20, all(4), Readings{}, 572641280},
		{"Mistral-Nemo-2407", 250, 20, all(16), Readings{}, 327106560},
		{"Llama-2-7B", 0, 20, all(16), Readings{}, 0},
		// l = L: no second sum, 2·4096·3·32·4 + 4096·4.
		{"Llama-2-7B", 3, 32, all(4), Readings{}, 3162112},
		// Front only: 2·4096·250·20·16 + 4096·16.
		{"Llama-2-7B", 250, 20, all(16), Readings{EdgeHolds: FrontOnly}, 655425536},
	} {
		s := shapeOf(t, test.model)
		if got := v(CacheBits(s, test.precision(s), test.tokens, test.splitLayer, test.readings)); got != test.want {
			t.Errorf("%s, w=%d l=%d %+v: %d bits, want %d", test.model, test.tokens, test.splitLayer, test.readings, got, test.want)
		}
	}
	// With l_w = 1 the printed boundary leaves the front width unused.
	s := shapeOf(t, "Llama-2-7B")
	one, other := Precision{1, 4, 4, 2, 8}, Precision{1, 4, 4, 16, 8}
	if a, b := v(CacheBits(s, one, 9, 5, Readings{})), v(CacheBits(s, other, 9, 5, Readings{})); a != b {
		t.Errorf("l_w=1, printed: %d bits with front 2, %d with front 16, want equal", a, b)
	}
	if a, b := v(CacheBits(s, one, 9, 5, Readings{CacheBoundary: Inclusive})), v(CacheBits(s, other, 9, 5, Readings{CacheBoundary: Inclusive})); a >= b {
		t.Errorf("l_w=1, inclusive: %d bits with front 2, %d with front 16, want fewer", a, b)
	}
}

// TestCacheBitsSum compares the closed form with the sums of Eq. 2 written out.
func TestCacheBitsSum(t *testing.T) {
	v := value(t)
	s := Shape{Layers: 7, Hidden: 11, KVWidth: 3}
	for lw := int64(1); lw <= 7; lw++ {
		for l := int64(1); l <= 7; l++ {
			for _, b := range []CacheBoundary{Printed, Inclusive} {
				p := Precision{lw, 4, 4, 8, 3}
				front, back, psi := int64(0), int64(0), int64(0)
				q := func(k int64) int64 {
					if k < lw || b == Inclusive && k == lw {
						return 8
					}
					return 3
				}
				for k := int64(1); k <= 7; k++ {
					if psi += q(k); k <= l {
						front += 2 * 5 * 3 * q(k)
					} else {
						back += 2 * 4 * 3 * q(k)
					}
				}
				r := Readings{CacheBoundary: b}
				if got, want := v(CacheBits(s, p, 5, l, r)), front+back+11*q(l); got != want {
					t.Errorf("l_w=%d l=%d %v: %d bits, want %d", lw, l, b, got, want)
				}
				if got := v(TotalActivationBits(s, p, r)); got != psi {
					t.Errorf("l_w=%d %v: Psi %d, want %d", lw, b, got, psi)
				}
			}
		}
	}
}

func TestPayloadBits(t *testing.T) {
	v := value(t)
	s := shapeOf(t, "Llama-2-7B")
	for _, test := range []struct {
		tokens, bits int64
		kv           bool
		readings     Readings
		want         int64
	}{
		{250, 16, false, Readings{}, 16384000},
		{250, 4, false, Readings{}, 4096000},
		{250, 4, false, Readings{Hidden: LastRow}, 16384},
		{0, 4, false, Readings{Hidden: LastRow}, 0},
		{0, 4, true, Readings{}, 0},
		{250, 4, true, Readings{}, 261767168},
		{50, 16, false, Readings{}, 8 * 409600},   // Fig. 6, 8.192 KB per token
		{350, 16, false, Readings{}, 8 * 2867200}, // Fig. 6
	} {
		if got := v(PayloadBits(s, Uniform(s, 4, test.bits), test.tokens, 20, test.kv, test.readings)); got != test.want {
			t.Errorf("w=%d, %d bits, kv %v, %+v: %d bits, want %d", test.tokens, test.bits, test.kv, test.readings, got, test.want)
		}
	}
}

// TestFootprintBits has the optima of the memory problem and the largest W-bar that fits, as computed outside.
func TestFootprintBits(t *testing.T) {
	v := value(t)
	for _, test := range []struct {
		model     string
		maxTokens int64
		precision Precision
		want      int64
	}{
		{"Llama-2-7B", 350, Precision{1, 16, 16, 16, 16}, 105084289024}, // uniform: the smallest l of the ties
		{"Llama-2-7B", 250, Precision{15, 4, 16, 16, 16}, 68237688832},
		{"Llama-2-7B", 250, Precision{23, 4, 8, 16, 16}, 34238332928},
		{"Llama-2-7B", 350, Precision{24, 4, 8, 16, 16}, 33848360960},
		{"Llama-2-13B", 350, Precision{18, 4, 16, 16, 16}, 136784936960},
		{"Llama-2-13B", 350, Precision{28, 4, 8, 16, 16}, 68270407680},
		{"Llama-2-13B", 350, Precision{35, 4, 8, 16, 16}, 59389829120},
	} {
		s := shapeOf(t, test.model)
		if got := v(FootprintBits(s, test.precision, test.maxTokens, test.precision.PrecisionLayer, Readings{})); got != test.want {
			t.Errorf("%s %+v: %d bits, want %d", test.model, test.precision, got, test.want)
		}
	}
	for _, test := range []struct {
		model          string
		gib, maxTokens int64
	}{{"Llama-2-7B", 4, 2015}, {"Llama-2-7B", 16, 26591}, {"Llama-2-13B", 7, 1430}, {"Llama-2-13B", 8, 2741}, {"Llama-2-13B", 16, 13227}} {
		s := shapeOf(t, test.model)
		p := Uniform(s, 4, 16)
		memory := test.gib << 33
		if got := v(FootprintBits(s, p, test.maxTokens, s.Layers, Readings{})); got > memory {
			t.Errorf("%s with %d tokens: %d bits, want at most %d GiB", test.model, test.maxTokens, got, test.gib)
		}
		if got := v(FootprintBits(s, p, test.maxTokens+1, s.Layers, Readings{})); got <= memory {
			t.Errorf("%s with %d tokens: %d bits, want more than %d GiB", test.model, test.maxTokens+1, got, test.gib)
		}
	}
	s := shapeOf(t, "Llama-2-7B")
	p := Uniform(s, 4, 16)
	plain := v(FootprintBits(s, p, 0, 32, Readings{}))
	if got := v(FootprintBits(s, p, 0, 32, Readings{IncludeEmbeddings: true})) - plain; got != 8*524288000 {
		t.Errorf("embeddings take %d bits, want %d", got, 8*524288000)
	}
	if got := v(FootprintBits(s, p, 0, 32, Readings{ReserveBytes: 1000})) - plain; got != 8000 {
		t.Errorf("a reserve of 1000 bytes takes %d bits", got)
	}
}

func TestBounds(t *testing.T) {
	v := value(t)
	// r=50, c=4096, 4 bits, share .001: 50·16432 + 205·32 + 32·51 + 64.
	if got := v(TensorBoundBits(50, 4096, Compression{4, 0.001})); got != 829856 {
		t.Errorf("bound of 50 rows: %d bits, want 829856", got)
	}
	// 100·0.07 is 7.000000000000001 in float64; seven values are above, not eight.
	if got := v(TensorBoundBits(1, 100, Compression{2, 0.07})); got != 248+7*32+64+64 {
		t.Errorf("bound with a share of .07: %d bits, want %d", got, 248+7*32+64+64)
	}
	if got := v(TensorBoundBits(2, 3, Compression{2, 1})); got != 2*54+6*32+96+64 {
		t.Errorf("bound with everything above: %d bits, want 460", got)
	}
	s := shapeOf(t, "Llama-2-7B")
	k := Compression{4, 0.001}
	hidden := func(rows int64) int64 { return v(TensorBoundBits(rows, 4096, k)) }
	for _, test := range []struct {
		tokens   int64
		kv       bool
		readings Readings
		want     int64
	}{
		{50, false, Readings{}, 829856},
		{50, false, Readings{Hidden: LastRow}, hidden(1)},
		{0, true, Readings{}, 0},
		{50, true, Readings{}, hidden(1) + 2*20*829856 + 2*12*hidden(49)},
		{50, true, Readings{EdgeHolds: FrontOnly}, hidden(1) + 2*20*829856},
		{1, true, Readings{}, hidden(1) + 2*20*hidden(1)},
	} {
		if got := v(PayloadBoundBits(s, test.tokens, 20, test.kv, k, test.readings)); got != test.want {
			t.Errorf("w=%d kv %v %+v: %d bits, want %d", test.tokens, test.kv, test.readings, got, test.want)
		}
	}
}

func TestMemoryFaults(t *testing.T) {
	s := shapeOf(t, "Llama-2-7B")
	ok := Uniform(s, 4, 4)
	huge := Shape{Layers: 2, Hidden: 1, KVWidth: 1, LayerParameters: math.MaxInt64 / 4}
	nan := math.NaN()
	for _, test := range []struct {
		name string
		call func() (int64, error)
		want string
	}{
		{"split layer 0", func() (int64, error) { return WeightBits(s, ok, 0, Readings{}) }, "split layer is 0, expected 1 to 32"},
		{"split layer beyond", func() (int64, error) { return CacheBits(s, ok, 1, 33, Readings{}) }, "split layer is 33, expected 1 to 32"},
		{"l_w 0", func() (int64, error) { return PayloadBits(s, Precision{0, 4, 4, 4, 4}, 1, 1, false, Readings{}) }, "precision layer is 0, expected 1 to 32"},
		{"width 17", func() (int64, error) { return WeightBits(s, Precision{1, 4, 17, 4, 4}, 1, Readings{}) }, "back weight width is 17 bits, expected 1 to 16"},
		{"width 0", func() (int64, error) { return TotalActivationBits(s, Precision{1, 4, 4, 0, 4}, Readings{}) }, "front activation width is 0 bits, expected 1 to 16"},
		{"block width 0", func() (int64, error) { return LayerWeightBits(s, 0, Plain) }, "weight width is 0 bits, expected 1 to 16"},
		{"tokens", func() (int64, error) { return CacheBits(s, ok, -1, 1, Readings{}) }, "there are -1 tokens, expected 0 or more"},
		{"payload tokens", func() (int64, error) { return PayloadBits(s, ok, -1, 1, false, Readings{}) }, "there are -1 tokens, expected 0 or more"},
		{"bound tokens", func() (int64, error) { return PayloadBoundBits(s, -1, 1, true, Compression{4, 0}, Readings{}) }, "there are -1 tokens, expected 0 or more"},
		{"bound layer", func() (int64, error) { return PayloadBoundBits(s, 1, 0, true, Compression{4, 0}, Readings{}) }, "split layer is 0, expected 1 to 32"},
		{"bound width", func() (int64, error) { return PayloadBoundBits(s, 1, 1, true, Compression{0, 0}, Readings{}) }, "activation width is 0 bits, expected 1 to 16"},
		{"share", func() (int64, error) { return TensorBoundBits(1, 1, Compression{4, nan}) }, "share above the threshold is NaN, expected 0 to 1"},
		{"rows", func() (int64, error) { return TensorBoundBits(-1, 1, Compression{4, 0}) }, "the tensor is -1 by 1, expected 0 or more"},
		{"no shape", func() (int64, error) { return CacheBits(Shape{}, ok, 1, 1, Readings{}) }, "the shape has 0 layers of width 0 with 0 values of K, expected a model"},
		{"reserve", func() (int64, error) { return FootprintBits(s, ok, 1, 1, Readings{ReserveBytes: -1}) }, "the reserve is -1 bytes, expected 0 or more"},
		{"footprint layer", func() (int64, error) { return FootprintBits(s, ok, 1, 0, Readings{}) }, "split layer is 0, expected 1 to 32"},
		{"footprint tokens", func() (int64, error) { return FootprintBits(s, ok, -1, 1, Readings{}) }, "there are -1 tokens, expected 0 or more"},
	} {
		n, err := test.call()
		if err == nil || err.Error() != "sim: "+test.want {
			t.Errorf("%s: %d, %v, want the fault %q", test.name, n, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than one line", test.name)
		}
	}
	for name, call := range map[string]func() (int64, error){
		"weights": func() (int64, error) { return WeightBits(huge, Uniform(huge, 16, 16), 1, Readings{}) },
		"back":    func() (int64, error) { return WeightBits(huge, Precision{1, 1, 16, 4, 4}, 1, Readings{}) },
		"cache":   func() (int64, error) { return CacheBits(s, ok, math.MaxInt64, 1, Readings{}) },
		"hidden":  func() (int64, error) { return PayloadBits(s, ok, math.MaxInt64/2, 1, false, Readings{}) },
		"reserve": func() (int64, error) { return FootprintBits(s, ok, 1, 1, Readings{ReserveBytes: math.MaxInt64 / 2}) },
		"tensor":  func() (int64, error) { return TensorBoundBits(math.MaxInt64, 2, Compression{4, 0.5}) },
		"payload": func() (int64, error) { return PayloadBoundBits(s, 1<<55, 1, true, Compression{4, 0.5}, Readings{}) },
		"many": func() (int64, error) {
			return CacheBits(Shape{Layers: math.MaxInt64, Hidden: 1, KVWidth: 1}, ok, 1, 1, Readings{})
		},
		"all above": func() (int64, error) { return TensorBoundBits(1<<31, 1<<31, Compression{16, 1}) },
	} {
		if n, err := call(); !errors.Is(err, ErrOverflow) {
			t.Errorf("%s: %d, %v, want an overflow", name, n, err)
		}
	}
}

package quantize

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// Vectors of baselines.md, section 0.
func TestRandomVectors(t *testing.T) {
	r := NewRandom(42)
	for _, want := range []float64{0.6394267984578837, 0.025010755222666936, 0.27502931836911926} {
		if got := r.Float64(); got != want {
			t.Errorf("random() = %v, want %v", got, want)
		}
	}
	x := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	NewRandom(42).Shuffle(10, func(i, j int) { x[i], x[j] = x[j], x[i] })
	if fmt.Sprint(x) != "[7 3 2 8 5 6 9 4 0 1]" {
		t.Errorf("shuffle = %v", x)
	}
	for seed, want := range map[uint64][]int{0: {1615835, 1764005, 169803, 1085975}, 2: {237193, 384134, 355978, 1514384}} {
		r := NewRandom(seed)
		for _, w := range want {
			if got, err := r.Int(0, 2800000); got != w || err != nil {
				t.Errorf("seed %d: randint %d (%v), want %d", seed, got, err, w)
			}
		}
	}
}

func TestGoldenRandom(t *testing.T) {
	var g struct {
		Vectors []map[string]json.RawMessage
		Windows []struct {
			Seed    uint64
			N, L    int
			Count   int `json:"n"`
			Starts  []int
			Comment string
		}
		Rule []struct {
			Seed  uint64
			L     int
			Picks [][2]int `json:"document_and_start"`
		} `json:"c4_rule"`
		Lengths   []int `json:"c4_rule_document_lengths"`
		Wikitext2 struct {
			Tokens  int `json:"n_tokens"`
			Windows []struct {
				Seed   uint64
				L, N   int
				Starts []int
			}
		} `json:"wikitext2_test_llama2"`
	}
	loadJSON(t, shared(t, "golden", "quant", "mt19937.json"), &g)
	var draws int
	for _, v := range g.Vectors {
		read := func(key string, x any) {
			t.Helper()
			if err := json.Unmarshal(v[key], x); err != nil {
				t.Fatalf("%s: %v", key, err)
			}
		}
		var seed uint64
		read("seed", &seed)
		r := NewRandom(seed)
		var floats []float64
		read("random", &floats)
		for i, want := range floats {
			if got := r.Float64(); got != want {
				t.Errorf("seed %d: random() %d = %v, want %v", seed, i, got, want)
			}
		}
		for _, n := range []uint64{1, 2, 3, 10, 1000, 1 << 20, 1<<20 + 1, 1<<31 - 1, 1<<32 - 1} {
			var below []uint64
			read(fmt.Sprintf("randbelow_%d", n), &below)
			for _, want := range below {
				draws++
				if got := r.Below(n); got != want {
					t.Errorf("seed %d: randbelow(%d) = %d, want %d", seed, n, got, want)
				}
			}
		}
		var want []int
		read("shuffle_50_after_the_above", &want)
		x := make([]int, 50)
		for i := range x {
			x[i] = i
		}
		r.Shuffle(50, func(i, j int) { x[i], x[j] = x[j], x[i] })
		if fmt.Sprint(x) != fmt.Sprint(want) {
			t.Errorf("seed %d: shuffle %v, want %v", seed, x, want)
		}
	}
	if len(g.Windows) == 0 || len(g.Rule) == 0 || len(g.Wikitext2.Windows) == 0 {
		t.Fatal("golden file lacks windows")
	}
	for _, w := range g.Windows {
		got, err := Windows(w.Seed, w.N, w.L, w.Count)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(w.Starts) {
			t.Errorf("windows of seed %d, N %d, L %d: %v, %v", w.Seed, w.N, w.L, got, err)
		}
	}
	for _, w := range g.Wikitext2.Windows {
		got, err := Windows(w.Seed, g.Wikitext2.Tokens, w.L, len(w.Starts))
		if err != nil || fmt.Sprint(got) != fmt.Sprint(w.Starts) {
			t.Errorf("wikitext2 windows of seed %d: %v, %v", w.Seed, got, err)
		}
	}
	for _, w := range g.Rule {
		got, err := DocumentWindows(w.Seed, g.Lengths, w.L, len(w.Picks))
		if err != nil || len(got) != len(w.Picks) {
			t.Errorf("c4 rule of seed %d: %v", w.Seed, err)
			continue
		}
		for i, p := range w.Picks {
			if got[i] != (DocumentWindow{p[0], p[1]}) {
				t.Errorf("c4 rule of seed %d: pick %d is %v, want %v", w.Seed, i, got[i], p)
			}
		}
	}
	t.Logf("%d generators, %d bounded draws, %d+%d sets of windows, %d document rules: all equal",
		len(g.Vectors), draws, len(g.Windows), len(g.Wikitext2.Windows), len(g.Rule))
}

func TestWindowsRefuse(t *testing.T) {
	if _, err := Windows(0, 512, 512, 1); err == nil || !strings.Contains(err.Error(), "more than the window of 512") {
		t.Errorf("a stream as long as the window: %v", err)
	}
	if _, err := DocumentWindows(0, []int{5, 512}, 512, 1); err == nil {
		t.Error("no long document: no error")
	}
	// Of these two documents the first draw of seed 0 is the second one.
	if _, err := DocumentWindows(0, []int{600, 512}, 512, 1); err == nil || !strings.Contains(err.Error(), "exactly 512 tokens") {
		t.Errorf("a document of exactly the window: %v", err)
	}
	if _, err := NewRandom(0).Int(3, 2); err == nil {
		t.Error("empty range: no error")
	}
}

// Bits beyond 32 take two draws, the low word first, as getrandbits does:
// the second and third outputs of MT19937 after init_by_array are checked by
// the golden vectors, so only the order is left.
func TestRandomBits(t *testing.T) {
	a, b := NewRandom(7), NewRandom(7)
	low, high := a.Bits(32), a.Bits(32)
	if got := b.Bits(53); got != low|high>>11<<32 {
		t.Errorf("getrandbits(53) = %x of %x, %x", got, low, high)
	}
	if b.Bits(0) != 0 {
		t.Error("getrandbits(0) is not 0")
	}
}

// Signs of different seeds are balanced and unrelated.
func TestTorchSignsDiffer(t *testing.T) {
	a, b := TorchSigns(0, 4096), TorchSigns(1, 4096)
	sum := 0.0
	same := 0
	for i := range a {
		sum += float64(a[i])
		if a[i] == b[i] {
			same++
		}
	}
	if sum < -300 || sum > 300 || same < 1700 || same > 2400 {
		t.Errorf("sum %v, %d of 4096 equal to another seed's", sum, same)
	}
}

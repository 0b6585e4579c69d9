package tasks

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// letters is a tokenizer simple enough to follow by hand: one token per character (its code point), "ab" is one token 1000, and, like
// SentencePiece with a dummy prefix, a text that begins with a space gets a lone token 900 first.
type letters struct {
	bos, eos int32 // 0 = none
	template []int32
	trim     bool // drops spaces at both ends, as tok512 does
}

func (l letters) Encode(text string, special bool) []int32 {
	var out []int32
	if special {
		for _, id := range l.template {
			if id == l.bos {
				out = append(out, id)
			}
		}
	}
	if l.trim {
		for len(text) > 0 && text[0] == ' ' {
			text = text[1:]
		}
		for len(text) > 0 && text[len(text)-1] == ' ' {
			text = text[:len(text)-1]
		}
	} else if len(text) > 0 && text[0] == ' ' {
		out = append(out, 900)
	}
	runes := []rune(text)
	for i := 0; i < len(runes); i++ {
		if runes[i] == 'a' && i+1 < len(runes) && runes[i+1] == 'b' {
			out = append(out, 1000)
			i++
			continue
		}
		out = append(out, runes[i])
	}
	if special {
		for _, id := range l.template {
			if id == l.eos && l.eos != 0 {
				out = append(out, id)
			}
		}
	}
	return out
}
func (l letters) BOS() (int32, bool) { return l.bos, l.bos != 0 }
func (l letters) EOS() (int32, bool) { return l.eos, l.eos != 0 }
func (l letters) BOSText() string {
	if l.bos == 0 {
		return ""
	}
	return "<s>"
}

func TestTokenize(t *testing.T) {
	llama := letters{bos: 1, eos: 2, template: []int32{1}}
	trimming := letters{bos: 1, eos: 2, template: []int32{1}, trim: true}
	both := letters{bos: 1, eos: 2, template: []int32{1, 2}}
	eosOnly := letters{eos: 2}
	noTemplate := letters{bos: 1, eos: 2}
	type ids = []int32
	for _, c := range []struct {
		name              string
		p                 Protocol
		tok               letters
		context, cont     string
		wantCtx, wantCont ids
		fallback          bool
		wantErr           error
	}{
		// The continuation alone carries the lone prefix token; the joint encoding does not.
		{"legacy alone", Legacy, llama, "Q:", " yes", ids{'Q', ':'}, ids{900, ' ', 'y', 'e', 's'}, false, nil},
		{"joint", JointNoBOS, llama, "Q:", " yes", ids{'Q', ':'}, ids{' ', 'y', 'e', 's'}, false, nil},
		{"joint with BOS", JointBOS, llama, "Q:", " yes", ids{1, 'Q', ':'}, ids{' ', 'y', 'e', 's'}, false, nil},
		{"template without BOS", JointBOS, noTemplate, "Q", " y", ids{'Q'}, ids{' ', 'y'}, false, nil},
		{"template's EOS stays out", JointBOS, both, "Q", " y", ids{1, 'Q'}, ids{' ', 'y'}, false, nil},
		{"no BOS at all", JointBOS, eosOnly, "Q", " y", ids{'Q'}, ids{' ', 'y'}, false, nil},
		// White space at the end of the context moves over, by Python's definition of it.
		{"space moves", JointBOS, llama, "Q \n\u3000", "y", ids{1, 'Q'}, ids{' ', '\n', 0x3000, 'y'}, false, nil},
		{"unit separator moves", JointNoBOS, llama, "Q\x1f", "y", ids{'Q'}, ids{0x1f, 'y'}, false, nil},
		{"legacy keeps it", Legacy, llama, "Q ", "y", ids{'Q', ' '}, ids{'y'}, false, nil},
		{"blank context with BOS", JointBOS, llama, "  ", "y", ids{1}, ids{900, ' ', ' ', 'y'}, false, nil},
		{"blank context without BOS", JointNoBOS, llama, "  ", "y", nil, nil, false, ErrEmptyContext},
		// An empty context is the prefix token: BOS, else EOS; legacy always EOS.
		{"empty context", JointBOS, llama, "", "y", ids{1}, ids{'y'}, false, nil},
		{"empty context, no BOS on", JointNoBOS, llama, "", "y", ids{1}, ids{'y'}, false, nil},
		{"empty context, EOS", JointBOS, eosOnly, "", "y", ids{2}, ids{'y'}, false, nil},
		{"empty context, legacy", Legacy, llama, "", "y", ids{2}, ids{'y'}, false, nil},
		{"prefix not doubled", JointBOS, llama, "", "<s>y", ids{1}, ids{'y'}, false, nil},
		{"nothing after the prefix", JointBOS, llama, "", "<s>", nil, nil, false, ErrEmptyContinuation},
		{"legacy doubles BOS, not EOS", Legacy, llama, "", "<s>y", ids{2}, ids{1, 'y'}, false, nil},
		// BOS text at the start of the string is the BOS, once.
		{"BOS text", JointBOS, llama, "<s>Q", " y", ids{1, 'Q'}, ids{' ', 'y'}, false, nil},
		{"BOS text without BOS on", JointNoBOS, llama, "<s>Q", " y", ids{1, 'Q'}, ids{' ', 'y'}, false, nil},
		// "a" + "b" merge into one token: the cut is empty and the continuation is encoded alone.
		{"merge over the cut", JointNoBOS, llama, "xa", "b", ids{'x', 'a'}, ids{'b'}, true, nil},
		{"merge and more", JointNoBOS, llama, "xa", "bc", ids{'x', 'a'}, ids{'c'}, false, nil},
		{"empty continuation", JointBOS, llama, "Q", "", nil, nil, false, ErrEmptyContinuation},
		{"spaces that the tokenizer drops", JointBOS, trimming, "Q", " ", nil, nil, false, ErrEmptyContinuation},
		{"empty continuation, legacy", Legacy, llama, "Q", "", nil, nil, false, ErrEmptyContinuation},
	} {
		pair, err := Tokenize(c.p, c.tok, Request{c.context, c.cont})
		if !errors.Is(err, c.wantErr) || c.wantErr == nil && err != nil {
			t.Errorf("%s: error %v, want %v", c.name, err, c.wantErr)
			continue
		}
		want := Pair{c.wantCtx, c.wantCont, c.fallback}
		if diff := cmp.Diff(want, pair); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	if _, err := Tokenize("joint", llama, Request{"Q", "y"}); err == nil {
		t.Error("an unknown protocol was taken")
	}
	for _, p := range Protocols() {
		if _, err := Tokenize(p, letters{}, Request{"", "y"}); err == nil {
			t.Errorf("%s: no prefix token, but no error", p)
		}
	}
}

func TestInput(t *testing.T) {
	type ids = []int32
	pair := Pair{Context: ids{1, 2, 3, 4}, Continuation: ids{5, 6}}
	// By hand, from (context+continuation)[-(max+1):][:-1].
	for _, c := range []struct {
		max            int
		input, targets ids
		dropped        int
	}{
		{10, ids{1, 2, 3, 4, 5}, ids{5, 6}, 0},
		{5, ids{1, 2, 3, 4, 5}, ids{5, 6}, 0},
		{4, ids{2, 3, 4, 5}, ids{5, 6}, 1},
		{2, ids{4, 5}, ids{5, 6}, 3},
	} {
		input, targets, dropped, err := Input(pair, c.max)
		if err != nil || !cmp.Equal(input, c.input) || !cmp.Equal(targets, c.targets) || dropped != c.dropped {
			t.Errorf("max %d: %v %v %d %v", c.max, input, targets, dropped, err)
		}
	}
	if _, _, _, err := Input(pair, 1); !errors.Is(err, ErrTooLong) {
		t.Errorf("two tokens in one: %v", err)
	}
	if _, _, _, err := Input(Pair{Context: ids{1}}, 4); !errors.Is(err, ErrEmptyContinuation) {
		t.Error(err)
	}
	if _, _, _, err := Input(Pair{Continuation: ids{1}}, 4); !errors.Is(err, ErrEmptyContext) {
		t.Error(err)
	}
	if !cmp.Equal(pair, Pair{Context: ids{1, 2, 3, 4}, Continuation: ids{5, 6}}) {
		t.Error("the pair was changed")
	}
}

// The lengths L-1 … L+3 at L = 64 and full-length continuations that lm-evaluation-harness was given: ids in, input ids out.
func TestInputEqualsGoldenEdges(t *testing.T) {
	type edge struct {
		MaxLength int     `json:"max_length"`
		Context   []int32 `json:"ctx_ids"`
		Cont      []int32 `json:"cont_ids"`
		Dropped   int     `json:"dropped_left"`
		Input     []int32 `json:"input_ids"`
	}
	seen := 0
	for _, model := range []string{"stories260k", "rand_llama3"} {
		for _, e := range jsonLines[edge](t, shared(t, "golden", "lmeval", "edges", model+".joint-bos.jsonl")) {
			if e.MaxLength == 0 {
				continue
			}
			seen++
			input, targets, dropped, err := Input(Pair{Context: e.Context, Continuation: e.Cont}, e.MaxLength)
			if err != nil || dropped != e.Dropped || !cmp.Equal(input, e.Input) || !cmp.Equal(targets, e.Cont) {
				t.Errorf("%s: %v dropped %d, golden %v dropped %d (%v)", model, input, dropped, e.Input, e.Dropped, err)
			}
		}
	}
	if seen != 14 {
		t.Errorf("%d edges with a length, want 14", seen)
	}
}

// Truncated requests of the reference run: the model's input spelled out.
func TestInputEqualsGoldenTruncation(t *testing.T) {
	type request struct {
		IDs     []int32 `json:"ids"`
		Cont    int     `json:"n_cont"`
		Dropped int     `json:"dropped_left"`
		Input   []int32 `json:"input_ids"`
	}
	type document struct{ Req []request }
	for file, length := range map[string]int{"babyllama105.boolq.max256": 256, "stories260k.hellaswag.max96": 96} {
		cut := 0
		for _, d := range jsonLines[document](t, shared(t, "golden", "lmeval", "truncation", file+".jsonl.gz")) {
			for _, r := range d.Req {
				n := len(r.IDs) - r.Cont
				input, targets, dropped, err := Input(Pair{Context: r.IDs[:n], Continuation: r.IDs[n:]}, length)
				if err != nil || dropped != r.Dropped || !cmp.Equal(input, r.Input) || !cmp.Equal(targets, r.IDs[n:]) {
					t.Fatalf("%s: dropped %d, golden %d (%v)", file, dropped, r.Dropped, err)
				}
				if dropped > 0 {
					cut++
				}
			}
		}
		if cut == 0 {
			t.Errorf("%s: nothing was cut", file)
		}
	}
}

func TestRolling(t *testing.T) {
	type ids = []int32
	llama := letters{bos: 1, eos: 2, template: []int32{1}}
	for _, c := range []struct {
		p      Protocol
		tok    letters
		tokens ids
		prefix int32
	}{
		{Legacy, llama, ids{'x', 1000}, 2},
		{JointNoBOS, llama, ids{'x', 1000}, 1},
		{JointBOS, llama, ids{1, 'x', 1000}, 1}, // BOS is predicted from BOS
		{JointBOS, letters{eos: 2}, ids{'x', 1000}, 2},
	} {
		tokens, prefix, err := RollingTokens(c.p, c.tok, "xab")
		if err != nil || !cmp.Equal(tokens, c.tokens) || prefix != c.prefix {
			t.Errorf("%s: %v after %d (%v)", c.p, tokens, prefix, err)
		}
	}
	if _, _, err := RollingTokens(JointBOS, letters{}, "x"); err == nil {
		t.Error("no prefix token, but no error")
	}
	if _, _, err := RollingTokens("", llama, "x"); err == nil {
		t.Error("an unknown protocol was taken")
	}
	// By hand for length 3: tokens 1..7 after prefix 0.
	got := RollingWindows(ids{1, 2, 3, 4, 5, 6, 7}, 0, 3)
	want := []Window{{ids{0, 1, 2}, ids{1, 2, 3}}, {ids{3, 4, 5}, ids{4, 5, 6}}, {ids{4, 5, 6}, ids{7}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Window{{ids{0}, ids{1}}}, RollingWindows(ids{1}, 0, 3)); diff != "" {
		t.Error(diff)
	}
	if got := RollingWindows(nil, 0, 3); got != nil {
		t.Errorf("no tokens: %v", got)
	}
}

func TestBlocksErrors(t *testing.T) {
	short := map[string]string{"c4.jsonl": `{"text": "abcd"}` + "\n" + `{"text": "xyzw"}` + "\n", "wiki.test.raw": " = T = \n"}
	dir := write(t, short)
	llama := letters{bos: 1, eos: 2, template: []int32{1}}
	for _, name := range []string{"c4", "c4-new", "wikitext2"} {
		ds, err := Load(name, Options{Path: dir})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Blocks(llama, ds, 64, 0); err == nil {
			t.Errorf("%s: no block of 64, but no error", name)
		} else if fmt.Sprint(err)[:5] != "task " {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := Blocks(llama, ds, 1, 0); err == nil {
			t.Errorf("%s: blocks of one token were taken", name)
		}
	}
	ds, err := Load("c4_documents", Options{Path: dir + "/c4.jsonl", Protocol: JointBOS})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Blocks(llama, ds, 4, 0); err == nil {
		t.Error("a rolling task was cut in blocks")
	}
	// By hand: BOS x y z w (2 tokens "ab" merged: 1 1000 c d | …): joined by a space, blocks of 3, limit 2 of 3.
	ds, err = Load("c4-new", Options{Path: dir, Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	blocks, info, err := Blocks(llama, ds, 3, 0)
	want := [][]int32{{1, 1000, 'c'}, {'d', ' ', 'x'}}
	if err != nil || !cmp.Equal(blocks, want) || info.Total != 3 || info.Tokens != 9 || info.Documents != 2 {
		t.Errorf("%v %+v %v", blocks, info, err)
	}
}

package tokenizer

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// timed runs f again and again and reports, beside the figures by the clock, those by CPU time: on a machine with other
// load they are what can be compared. bytes is what one run works on.
func timed(b *testing.B, bytes int, f func()) {
	b.SetBytes(int64(bytes))
	b.ReportAllocs()
	start, n := cpuTime(), 0
	for b.Loop() {
		f()
		n++
	}
	cpu := (cpuTime() - start).Seconds() / float64(n)
	b.ReportMetric(cpu*1e3, "cpu-ms/op")
	b.ReportMetric(float64(bytes)/1e6/cpu, "cpu-MB/s")
}

// cpuTime is the CPU time of the process so far.
func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func BenchmarkEncode(b *testing.B) {
	for _, name := range []string{"llama2", "llama2_metaspace", "llama2.model", "llama2.bin", "mistral_v3", "mistral_v3.model", "tok512", "tok105", "gpt2", "llama3", "llama3.model", "phi4", "qwen2", "tekken"} {
		text := string(readShared(b, "data", "wikitext2", "wiki.test.raw"))
		tok := family(b, name)
		b.Run(name+"/whole", func(b *testing.B) {
			timed(b, len(text), func() { tok.Encode(text, false) })
		})
		lines := strings.Split(text, "\n")
		b.Run(name+"/lines", func(b *testing.B) {
			timed(b, len(text), func() {
				for _, l := range lines {
					tok.Encode(l, false)
				}
			})
		})
		b.Run(name+"/first", func(b *testing.B) { // no word remembered
			timed(b, len(text), func() {
				clear(merger(tok).cache)
				tok.Encode(text, false)
			})
		})
	}
}

func merger(t Tokenizer) *bpe {
	switch t := t.(type) {
	case *hfTokenizer:
		return t.m
	case *spmTokenizer:
		return t.m
	case *byteTokenizer:
		return t.m
	}
	return nil
}

// BenchmarkOneWord encodes 1 MB without any boundary.
func BenchmarkOneWord(b *testing.B) {
	for name, char := range map[string]string{"letter": "a", "spaces": " ", "digits": "0123456789", "newlines": "\n", "bytes": "\U0001F600", "tatweel": "ـ", "dashes": "-", "accents": "\u0301"} {
		text := strings.Repeat(char, 1<<20/len(char))
		for _, tok := range []string{"llama2", "llama2.model", "tok512", "mistral_v3.model", "llama2_metaspace", "gpt2", "llama3", "phi4", "qwen2", "tekken"} {
			t := family(b, tok)
			b.Run(name+"/"+tok, func(b *testing.B) {
				timed(b, len(text), func() { t.Encode(text, false) })
			})
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	text := string(readShared(b, "data", "wikitext2", "wiki.test.raw"))
	for _, name := range []string{"llama2", "llama2.model", "llama3"} {
		tok := family(b, name)
		ids := tok.Encode(text, false)
		b.Run(name, func(b *testing.B) {
			timed(b, len(text), func() {
				if _, err := tok.Decode(ids); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, name := range []string{"llama2", "llama2_metaspace", "llama2.model", "llama2.bin", "mistral_v3", "mistral_v3.model", "tok512",
		"gpt2", "gpt2.vocab", "llama3", "llama3.model", "llama3.vocab", "phi4", "phi4.ranks", "qwen2", "qwen2.arrays", "qwen2.ranks", "tekken", "tekken.ranks"} {
		data, path := readShared(b, families[name]...), shared(b, families[name]...)
		b.Run(name, func(b *testing.B) {
			timed(b, len(data), func() {
				side, err := settingsOf(path)
				if err == nil {
					_, err = parse(data, side)
				}
				if err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

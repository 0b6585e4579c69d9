package tokenizer

import (
	"strings"
	"testing"
)

func BenchmarkEncode(b *testing.B) {
	for _, name := range []string{"llama2", "llama2_metaspace", "llama2.model", "llama2.bin", "mistral_v3", "mistral_v3.model", "tok512", "tok105"} {
		text := string(readShared(b, "data", "wikitext2", "wiki.test.raw"))
		tok := family(b, name)
		b.Run(name+"/whole", func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				tok.Encode(text, false)
			}
		})
		lines := strings.Split(text, "\n")
		b.Run(name+"/lines", func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				for _, l := range lines {
					tok.Encode(l, false)
				}
			}
		})
		b.Run(name+"/first", func(b *testing.B) { // no word remembered
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				clear(merger(tok).cache)
				tok.Encode(text, false)
			}
		})
	}
}

func merger(t Tokenizer) *bpe {
	switch t := t.(type) {
	case *hfTokenizer:
		return t.m
	case *spmTokenizer:
		return t.m
	}
	return nil
}

// BenchmarkOneWord encodes 1 MB without any boundary.
func BenchmarkOneWord(b *testing.B) {
	for name, char := range map[string]string{"letter": "a", "spaces": " ", "digits": "0123456789", "bytes": "\U0001F600", "tatweel": "ـ", "dashes": "-"} {
		text := strings.Repeat(char, 1<<20/len(char))
		for _, tok := range []string{"llama2", "llama2.model", "tok512", "mistral_v3.model", "llama2_metaspace"} {
			t := family(b, tok)
			b.Run(name+"/"+tok, func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				for b.Loop() {
					t.Encode(text, false)
				}
			})
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	text := string(readShared(b, "data", "wikitext2", "wiki.test.raw"))
	for _, name := range []string{"llama2", "llama2.model"} {
		tok := family(b, name)
		ids := tok.Encode(text, false)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := tok.Decode(ids); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, name := range []string{"llama2", "llama2_metaspace", "llama2.model", "llama2.bin", "mistral_v3", "mistral_v3.model", "tok512"} {
		data := readShared(b, families[name]...)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := parse(data, settings{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

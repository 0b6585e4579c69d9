package codectest_test

import (
	"fmt"
	"testing"

	"splitbench/compress"
	"splitbench/compress/codectest"
)

// TestCodecs runs the suite on every codec under the default readings, and on
// the two that quantise under each other value of each reading.
func TestCodecs(t *testing.T) {
	run := func(name, label string, change func(o *compress.Options)) {
		o := compress.DefaultOptions()
		change(&o)
		t.Run(name+"/"+label, func(t *testing.T) {
			codectest.Run(t, func() compress.Codec {
				c, err := compress.NewCodec(name, o)
				if err != nil {
					t.Fatal(err)
				}
				return c
			})
		})
	}
	for _, name := range compress.CodecNames() {
		run(name, "default", func(*compress.Options) {})
	}
	for _, name := range []string{"literal", "packed", "split1"} {
		for bits := 2; bits <= 8; bits++ {
			run(name, fmt.Sprint("bits", bits), func(o *compress.Options) { o.MaxActivationBits = bits; o.LowerBound = 1 })
		}
		run(name, "fixed", func(o *compress.Options) { o.Search = "fixed"; o.MaxActivationBits = 8 })
		run(name, "first_exceed", func(o *compress.Options) { o.StopRule = "first_exceed"; o.MaxActivationBits = 8 })
		run(name, "round", func(o *compress.Options) { o.Comparison = "round"; o.MaxActivationBits = 7 })
		run(name, "per_tensor", func(o *compress.Options) { o.Granularity = "per_tensor"; o.MaxActivationBits = 8 })
		run(name, "torch", func(o *compress.Options) { o.SparseIndex = "torch" })
		run(name, "scale32", func(o *compress.Options) { o.ScaleType = "float32" })
		for _, above := range []string{"float16", "bfloat16", "float32"} {
			run(name, "above_"+above, func(o *compress.Options) { o.AboveType = above; o.Threshold = 1 })
		}
		run(name, "all_above", func(o *compress.Options) { o.Threshold = 0 })
	}
}

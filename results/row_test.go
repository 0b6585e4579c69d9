package results

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// testKey returns a valid cell key that begins with n.
func testKey(n int) string {
	s := fmt.Sprintf("%x", n)
	return s + strings.Repeat("0", 64-len(s))
}

// testRows returns n rows of a plausible two-choice task.
func testRows(key string, n int) []Row {
	r := rand.New(rand.NewPCG(7, uint64(n)))
	rows := make([]Row, n)
	for i := range rows {
		rows[i] = Row{
			Cell: key,
			Point: Point{
				Model: "stories260K", Task: "piqa", Protocol: "joint-bos", Method: "split",
				SplitLayer: 3, WeightLayer: 3, FrontBits: 4, BackBits: 16, Group: 32,
				Codec: "literal", Threshold: 5, TauBy: "value", MaxActivationBits: 4, Delta: 0.2, Seed: -1,
			},
			Doc: int32(i / 2), Choice: int32(i % 2), Gold: int32(i / 2 % 2),
			ContextTokens: 20, Tokens: int32(5 + i%7), LogProb: -50 * r.Float64(), Greedy: i%5 == 0,
			Chars: int32(30 + i%9), Bytes: int32(31 + i%9), Words: 6,
			PayloadBytes: 1010 + int64(i), PayloadHeader: 16, PayloadTables: 64, PayloadCodes: 800, PayloadSide: 30, PayloadSparse: 100 + int64(i),
			PayloadTokens: 25,
		}
	}
	return rows
}

// fill sets every field of v to a value that is not its zero.
func fill(v reflect.Value, r *rand.Rand) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), r)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), r)
	case reflect.String:
		v.SetString(fmt.Sprintf("s%d ü", r.IntN(1000)))
	case reflect.Int32:
		v.SetInt(int64(int32(r.Uint32() | 1)))
	case reflect.Int64:
		v.SetInt(int64(r.Uint64() | 1))
	case reflect.Float64:
		v.SetFloat(r.NormFloat64())
	case reflect.Bool:
		v.SetBool(true)
	default:
		panic("row field of kind " + v.Kind().String())
	}
}

// fullRows returns rows in which every field is set, so that a field forgotten by
// an encoding shows.
func fullRows(n int) []Row {
	r := rand.New(rand.NewPCG(1, 2))
	rows := make([]Row, n)
	for i := range rows {
		fill(reflect.ValueOf(&rows[i]).Elem(), r)
		if i%3 == 1 { // same cell and point as the row before, no times
			rows[i].Cell, rows[i].Point = rows[i-1].Cell, rows[i-1].Point
			rows[i].EdgeSeconds, rows[i].CloudSeconds = nil, nil
		}
	}
	return rows
}

func diff(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("%s differs (-want +got):\n%s", what, d)
	}
}

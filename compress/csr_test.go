package compress

import (
	"bytes"
	"encoding/hex"
	"math"
	"strings"
	"testing"
)

// sparse3x5 is 3 rows of 5: (0,1) = 1, (2,0) = -2, (2,4) = 6.
func sparse3x5() CSR {
	return CSR{RowPtr: []uint32{0, 1, 1, 3}, Col: []uint32{1, 0, 4}, Val: []float32{1, -2, 6}}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCSRBytes compares both layouts with bytes written by hand, and reads them
// back.
func TestCSRBytes(t *testing.T) {
	c := sparse3x5()
	for _, x := range []struct {
		name  string
		torch bool
		cols  int
		as    valueType
		want  string
	}{
		{"compact float16", false, 5, typeFloat16, "00000000 01000000 01000000 03000000  0100 0000 0400  003c 00c0 0046"},
		{"compact bfloat16", false, 65536, typeBfloat16, "00000000 01000000 01000000 03000000  0100 0000 0400  803f 00c0 c040"},
		{"compact wide", false, 65537, typeFloat32, "00000000 01000000 01000000 03000000  01000000 00000000 04000000  0000803f 000000c0 0000c040"},
		{"torch", true, 5, typeFloat16, "0000000000000000 0100000000000000 0100000000000000 0300000000000000  0100000000000000 0000000000000000 0400000000000000  003c 00c0 0046"},
	} {
		f := newCSRForm(x.torch, x.cols, x.as)
		b := f.append([]byte{9}, &c)
		if want := append([]byte{9}, unhex(t, x.want)...); !bytes.Equal(b, want) {
			t.Errorf("%s: %x, want %x", x.name, b, want)
		}
		v, err := f.parse(b[1:], 3, x.cols)
		if err != nil {
			t.Errorf("%s: %v", x.name, err)
			continue
		}
		m := Matrix{3, x.cols, make([]float32, 3*x.cols)}
		if err := v.overwrite(m); err != nil {
			t.Error(err)
		}
		sum := float32(0)
		for _, v := range m.Data {
			sum += v
		}
		if m.Row(0)[1] != 1 || m.Row(2)[0] != -2 || m.Row(2)[4] != 6 || sum != 5 {
			t.Errorf("%s: restored %v", x.name, m.Data[:10])
		}
		m.Row(2)[0] = .5
		if err := v.overwrite(m); err == nil {
			t.Errorf("%s: a place with a code is overwritten", x.name)
		}
	}
}

func TestCSRErrors(t *testing.T) {
	for _, x := range []struct{ name, b, want string }{
		{"empty", "", "has 0 bytes"},
		{"short pointers", "00000000 01000000 01000000", "has 12 bytes"},
		{"not a multiple", "00000000 01000000 01000000 01000000 0100 00", "has 19 bytes"},
		{"first pointer", "01000000 01000000 01000000 01000000 0100 003c", "first row pointer is 1"},
		{"falling", "00000000 01000000 00000000 01000000 0100 003c", "row pointer 2 is 0"},
		{"too large", "00000000 02000000 02000000 02000000 0100 003c", "row pointer 1 is 2"},
		{"not all", "00000000 00000000 00000000 00000000 0100 003c", "rows hold 0 values"},
		{"column", "00000000 01000000 01000000 01000000 0500 003c", "row 0 has column 5"},
		{"same column twice", "00000000 02000000 02000000 02000000 0100 0100 003c 003c", "row 0 has column 1, expected 2 to 4"},
		{"columns fall", "00000000 00000000 02000000 02000000 0300 0100 003c 003c", "row 1 has column 1, expected 4 to 4"},
	} {
		_, err := newCSRForm(false, 5, typeFloat16).parse(unhex(t, x.b), 3, 5)
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: error %v, want %q", x.name, err, x.want)
		}
	}
	// The pointers of "torch" hold more than fits an int.
	b := unhex(t, "0000000000000000 ffffffffffffffff")
	if _, err := newCSRForm(true, 5, typeFloat16).parse(b, 1, 5); err == nil {
		t.Error("row pointer 2^64-1 is taken")
	}
}

func TestSmallestExact(t *testing.T) {
	if got := smallestExact([]float32{1, 0x1p-24, float32(math.Inf(1))}); got != typeFloat16 {
		t.Errorf("float16 values: %s", got)
	}
	if got := smallestExact([]float32{1, 0x1p-25}); got != typeBfloat16 {
		t.Errorf("bfloat16 values: %s", got)
	}
	if got := smallestExact([]float32{1 + 0x1p-10, 0x1p-25}); got != typeFloat32 {
		t.Errorf("one value of each: %s", got)
	}
}

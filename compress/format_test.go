package compress

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/bits"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var updateFormat = flag.Bool("update", false, "write the vectors of FORMAT.md anew; check them with another implementation then")

// formatBlock is a fenced block of FORMAT.md.
type formatBlock struct {
	kind, name string
	keys       []string // in their order
	fields     map[string]string
	body       string
}

// formatBlocks returns the text of FORMAT.md cut at its blocks: text[i] stands
// before blocks[i], and the last text after all.
func formatBlocks(t *testing.T) (text []string, blocks []formatBlock) {
	t.Helper()
	b, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(b), "```")
	if len(parts)%2 == 0 {
		t.Fatal("FORMAT.md: a block does not end")
	}
	for i := 0; i+1 < len(parts); i += 2 {
		text = append(text, parts[i])
		head, body, _ := strings.Cut(parts[i+1], "\n")
		kind, name, _ := strings.Cut(head, " ")
		block := formatBlock{kind: kind, name: name, body: body, fields: map[string]string{}}
		for line := range strings.Lines(body) {
			line = strings.TrimSuffix(line, "\n")
			if key, value, ok := strings.Cut(line, ":"); ok {
				block.keys = append(block.keys, key)
				block.fields[key] = strings.TrimSpace(value)
			} else if n := len(block.keys); n > 0 {
				block.fields[block.keys[n-1]] += strings.TrimSpace(line)
			}
		}
		blocks = append(blocks, block)
	}
	return append(text, parts[len(parts)-1]), blocks
}

func (b *formatBlock) options(t *testing.T) Options {
	t.Helper()
	o := DefaultOptions()
	if s := b.fields["options"]; s != "" {
		d := json.NewDecoder(strings.NewReader(s))
		d.DisallowUnknownFields()
		if err := d.Decode(&o); err != nil {
			t.Fatalf("options %s: %v", s, err)
		}
	}
	return o
}

// generator gives the values that FORMAT.md calls generated.
type generator uint32

func (g *generator) matrix(rows, cols int) Matrix {
	m := Matrix{rows, cols, make([]float32, rows*cols)}
	for i := range m.Data {
		*g = 1664525**g + 1013904223
		m.Data[i] = float32((bits.OnesCount32(uint32(*g)>>16)-8)*(1+i%cols%4)) / 4
	}
	return m
}

func parseFormatValues(t *testing.T, s string) []float32 {
	t.Helper()
	out := []float32{}
	for _, f := range strings.Fields(s) {
		v, err := strconv.ParseFloat(f, 32)
		if err != nil {
			t.Fatal(err)
		}
		if math.IsNaN(v) {
			out = append(out, math.Float32frombits(0x7fc00000))
			continue
		}
		out = append(out, float32(v))
	}
	return out
}

func formatValues(values []float32) string {
	if len(values) > 64 {
		return "sha256 " + hexSum(littleEndian(values))
	}
	var out []string
	for _, v := range values {
		s := strconv.FormatFloat(float64(v), 'g', -1, 32)
		switch s {
		case "NaN":
			s = "nan"
		case "+Inf", "-Inf":
			s = strings.ToLower(strings.TrimPrefix(s, "+"))
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

// input returns the matrix of a block, or for keys and values all of them.
func (b *formatBlock) input(t *testing.T, count int) []Matrix {
	t.Helper()
	var rows, cols int
	if _, err := fmt.Sscan(b.fields["shape"], &rows, &cols); err != nil {
		t.Fatalf("shape %q: %v", b.fields["shape"], err)
	}
	var seed uint32
	if _, err := fmt.Sscanf(b.fields["input"], "generated %d", &seed); err != nil {
		return []Matrix{{rows, cols, parseFormatValues(t, b.fields["input"])}}
	}
	g := generator(seed)
	var out []Matrix
	for range count {
		out = append(out, g.matrix(rows, cols))
	}
	return out
}

func unhexField(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// formatVector encodes and decodes the input of a block.
func (b *formatBlock) run(t *testing.T, tables map[string]*Tables, message []byte) (encoded []byte, restored []float32) {
	t.Helper()
	o := b.options(t)
	if b.fields["codec"] == "kv" {
		var layers, position int
		if _, err := fmt.Sscan(b.fields["layers"]+" "+b.fields["position"], &layers, &position); err != nil {
			t.Fatal(err)
		}
		var trained *KVTables
		if names := strings.Fields(b.fields["tables"]); len(names) > 0 {
			trained = new(KVTables)
			for i := 0; i < len(names); i += 2 {
				trained.Keys = append(trained.Keys, tables[names[i]])
				trained.Values = append(trained.Values, tables[names[i+1]])
			}
		}
		c, err := NewKVCodec(o, trained)
		if err != nil {
			t.Fatal(err)
		}
		kv := KV{Position: position}
		for i, m := range b.input(t, 2*layers) {
			if i%2 == 0 {
				kv.Keys = append(kv.Keys, m)
			} else {
				kv.Values = append(kv.Values, m)
			}
		}
		encoded, _, err := c.Encode(nil, kv)
		if err != nil {
			t.Fatal(err)
		}
		if message == nil {
			message = encoded
		}
		out, err := c.Decode(message)
		if err != nil {
			t.Fatal(err)
		}
		if out.Position != position || len(out.Keys) != layers {
			t.Errorf("position %d of %d layers, want %d of %d", out.Position, len(out.Keys), position, layers)
		}
		for i := range out.Keys {
			restored = append(append(restored, out.Keys[i].Data...), out.Values[i].Data...)
		}
		return encoded, restored
	}
	if name := b.fields["tables"]; name != "" {
		if o.Tables = tables[name]; o.Tables == nil {
			t.Fatalf("no tables %q", name)
		}
	}
	c := mustCodec(t, b.fields["codec"], o)
	m := b.input(t, 1)[0]
	encoded, _, err := c.Encode(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	if message == nil {
		message = encoded
	}
	out, err := c.Decode(nil, message)
	if err != nil {
		t.Fatal(err)
	}
	if out.Rows != m.Rows || out.Cols != m.Cols {
		t.Errorf("restored %d x %d, want %d x %d", out.Rows, out.Cols, m.Rows, m.Cols)
	}
	return encoded, out.Data
}

// trainFormat trains as a block of tables says: a session's tables, or with
// "restore" centroid a trainer's.
func (b *formatBlock) train(t *testing.T) *Tables {
	t.Helper()
	var rows, cols int
	var seed uint32
	if _, err := fmt.Sscanf(b.fields["trained"], "%d %d generated %d", &rows, &cols, &seed); err != nil {
		t.Fatalf("trained %q: %v", b.fields["trained"], err)
	}
	g := generator(seed)
	m, o := g.matrix(rows, cols), b.options(t)
	if o.Restore == "centroid" {
		return trainOn(t, m, o)
	}
	s, err := NewSession(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Encode(nil, m); err != nil {
		t.Fatal(err)
	}
	if err := s.Train(); err != nil {
		t.Fatal(err)
	}
	return s.Tables()
}

// TestFormat checks what FORMAT.md states in bytes: the built-in tables, their
// sum, and every vector, encoded and decoded.
func TestFormat(t *testing.T) {
	text, blocks := formatBlocks(t)
	tables := map[string]*Tables{}
	seen := map[string]int{}
	for i := range blocks {
		b := &blocks[i]
		name := fmt.Sprintf("%s %s %d", b.kind, b.name, i)
		if b.kind == "vector" {
			name = fmt.Sprintf("%s %s %s %d", b.fields["codec"], b.fields["options"], b.fields["tables"], i)
		}
		seen[b.kind]++
		switch b.kind {
		case "builtin":
			got := unhexField(t, strings.ReplaceAll(b.body, "\n", ""))
			if !bytes.Equal(got, builtinFile) || !strings.Contains(text[i], "`"+hexSum(builtinFile)+"`") {
				t.Errorf("the built-in tables or their SHA-256 differ: %s", hexSum(builtinFile))
			}
		case "tables":
			x := b.train(t)
			file := x.Append(nil)
			if *updateFormat {
				b.fields["file"] = hex.EncodeToString(file)
			}
			if want := unhexField(t, b.fields["file"]); !bytes.Equal(file, want) {
				t.Errorf("%s: training gives\n%x, want\n%x", name, file, want)
			}
			parsed, err := ParseTables(unhexField(t, b.fields["file"]))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			tables[b.name] = parsed
		case "vector":
			if *updateFormat {
				msg, restored := b.run(t, tables, nil)
				b.fields["message"], b.fields["restored"] = hex.EncodeToString(msg), formatValues(restored)
			}
			t.Run(name, func(t *testing.T) {
				want := unhexField(t, b.fields["message"])
				msg, restored := b.run(t, tables, want)
				if !bytes.Equal(msg, want) {
					t.Errorf("encodes to\n%x, want\n%x", msg, want)
				}
				if sum, ok := strings.CutPrefix(b.fields["restored"], "sha256 "); ok {
					if got := hexSum(littleEndian(restored)); got != sum {
						t.Errorf("restored values have SHA-256 %s, want %s", got, sum)
					}
				} else if want := parseFormatValues(t, b.fields["restored"]); !bytes.Equal(littleEndian(restored), littleEndian(want)) {
					t.Errorf("restored %v, want %v", restored, want)
				}
				if frame, rest, err := Frame(append(slices.Clone(want), want...)); err != nil || len(frame) != len(want) || len(rest) != len(want) {
					t.Errorf("two of it are cut into %d and %d bytes, want %d each (%v)", len(frame), len(rest), len(want), err)
				}
			})
		default:
			t.Errorf("block of kind %q", b.kind)
		}
	}
	if seen["builtin"] != 1 || seen["tables"] == 0 || seen["vector"] == 0 {
		t.Errorf("blocks %v", seen)
	}
	if *updateFormat {
		writeFormat(t, text, blocks)
	}
}

// writeFormat writes FORMAT.md, its values in lines of up to 120 characters.
func writeFormat(t *testing.T, text []string, blocks []formatBlock) {
	t.Helper()
	var out strings.Builder
	for i, b := range blocks {
		out.WriteString(text[i] + "```" + strings.TrimSuffix(b.kind+" "+b.name, " ") + "\n")
		if len(b.keys) == 0 {
			out.WriteString(b.body)
		}
		for _, key := range b.keys {
			s := b.fields[key]
			if key != "message" && key != "file" || len(s) <= 110 {
				out.WriteString(strings.TrimSuffix(key+": "+s, " ") + "\n")
				continue
			}
			out.WriteString(key + ":\n")
			for s := range slices.Chunk([]byte(s), 120) {
				out.WriteString("  " + string(s) + "\n")
			}
		}
		out.WriteString("```")
	}
	out.WriteString(text[len(blocks)])
	if err := os.WriteFile("FORMAT.md", []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

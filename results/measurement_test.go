package results

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
)

func testMeasurements() (Setup, []Measurement) {
	f := func(v float64) *float64 { return &v }
	n := func(v int32) *int32 { return &v }
	return Setup{Version: "1.2+abc", GoVersion: "go1", OS: "linux", Arch: "amd64", CPUs: 2, CPUModel: "a CPU", CPUFeatures: "avx2 fma"},
		[]Measurement{
			{Bench: "codec", Table: "size", Input: "x", Subject: "literal", Metric: "total", Unit: "bytes/token", Threshold: f(5), MaxActivationBits: n(4), MessageTokens: n(1), Threads: 1, Value: 17.5},
			{Bench: "cpu", Table: "gemm", Input: "15M", Subject: "avx512", Weights: "fp32", Metric: "rate", Unit: "GFLOP/s", Rows: n(8), Out: n(288), In: n(768), Threads: 2, Value: 90, Best: f(99), Q1: f(80), Q3: f(95), Rounds: 7, Rival: "peak", Ratio: f(.5)},
		}
}

// TestMeasurementColumns reads a file as a stranger would: by column names.
func TestMeasurementColumns(t *testing.T) {
	setup, list := testMeasurements()
	var a, b bytes.Buffer
	for _, w := range []*bytes.Buffer{&a, &b} {
		if err := WriteMeasurements(w, setup, list); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("two files of the same measurements differ")
	}
	f, err := parquet.OpenFile(bytes.NewReader(a.Bytes()), int64(a.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := f.Lookup(schemaKey); !ok || v != "1" {
		t.Errorf("schema version %q, want 1", v)
	}
	columns := map[string][]string{}
	rows := f.RowGroups()[0].Rows()
	defer rows.Close()
	buf := make([]parquet.Row, 2)
	if n, _ := rows.ReadRows(buf); n != 2 {
		t.Fatalf("%d rows, want 2", n)
	}
	names := f.Schema().Columns()
	for _, row := range buf {
		for _, v := range row {
			columns[strings.Join(names[v.Column()], ".")] = append(columns[strings.Join(names[v.Column()], ".")], v.String())
		}
	}
	for name, want := range map[string]string{
		"bench": "codec cpu", "table": "size gemm", "input": "x 15M", "subject": "literal avx512", "metric": "total rate", "unit": "bytes/token GFLOP/s",
		"threshold": "5 <null>", "max_activation_bits": "4 <null>", "message_tokens": "1 <null>", "weights": " fp32", "rows": "<null> 8", "out": "<null> 288", "in": "<null> 768",
		"threads": "1 2", "value": "17.5 90", "best": "<null> 99", "q1": "<null> 80", "q3": "<null> 95", "rounds": "0 7", "rival": " peak", "ratio": "<null> 0.5",
		"version": "1.2+abc 1.2+abc", "go_version": "go1 go1", "os": "linux linux", "arch": "amd64 amd64", "cpus": "2 2", "cpu_model": "a CPU a CPU", "cpu_features": "avx2 fma avx2 fma",
	} {
		if got := strings.Join(columns[name], " "); got != want {
			t.Errorf("column %s: %q, want %q", name, got, want)
		}
		delete(columns, name)
	}
	if len(columns) > 0 {
		t.Errorf("columns that nobody asked for: %v", columns)
	}
}

func TestMeasurementJSON(t *testing.T) {
	setup, list := testMeasurements()
	var buf bytes.Buffer
	if err := EncodeMeasurements(&buf, setup, []string{"a < b"}, list[:1]); err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, buf.Bytes()); err != nil {
		t.Fatal(err)
	}
	want := `{"schema":1,"provenance":{"version":"1.2+abc","go_version":"go1","os":"linux","arch":"amd64","cpus":2,"cpu_model":"a CPU","cpu_features":"avx2 fma"},` +
		`"notes":["a < b"],"measurements":[{"bench":"codec","table":"size","input":"x","subject":"literal","metric":"total","unit":"bytes/token",` +
		`"threshold":5,"max_activation_bits":4,"message_tokens":1,"threads":1,"value":17.5,"rounds":0}]}`
	if got := compact.String(); got != want {
		t.Errorf("JSON\n%s\nwant\n%s", got, want)
	}
	buf.Reset()
	if err := EncodeMeasurements(&buf, setup, nil, nil); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(buf.String(), `"notes": []`) || !strings.Contains(buf.String(), `"measurements": []`) {
		t.Errorf("no notes and no measurements are not empty lists:\n%s", buf.String())
	}
}

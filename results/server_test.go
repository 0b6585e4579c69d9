package results

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// someServer has times in round minutes: the split is faster, but busier with four devices.
func someServer() *Server {
	time := func(maxTokens, devices int, residence, busy float64) ServerTime {
		return ServerTime{Model: "m", Panel: "closed", MaxTokens: maxTokens, Devices: devices, Seeds: 2, Residence: Estimate{60 * residence, 6}, Busy: Estimate{60 * busy, 0}, Visits: float64(devices), Tokens: 1e4, Batch: 1.5}
	}
	return &Server{
		Key: "k", Notes: []string{"Server: a.", "Handover: b.", "Requests: c."},
		Times:  []ServerTime{time(0, 1, 2, 1), time(0, 4, 9, 2), time(250, 1, 1, 1), time(250, 4, 4, 3)},
		Tokens: []ServerTokens{{0, 349.25}, {250, 226}},
	}
}

func TestServerTables(t *testing.T) {
	tables := someServer().Tables()
	if len(tables) != 2 || tables[0].Name != "server_time" || tables[1].Name != "server_tokens" {
		t.Fatalf("tables %+v", tables)
	}
	for i, want := range [][]string{
		{"| modelled | m     | closed   | cloud-only     |       1 |     2 |   2.000 ± 0.100 | 1.000 ± 0.000 |", "| modelled | m     | closed   | split, W = 250 |       4 |     2 |   4.000 ± 0.100 | 3.000 ± 0.000 |",
			"- Modelled by a simulation, not measured.", "- Server: a.", "- Warning: the server is BUSY LONGER with the split", "- m, closed, W = 250: N = 4\n"},
		{"| modelled |        250 |                     226.0 |", "- Handover: b.\n- Requests: c.\n"},
	} {
		var b strings.Builder
		if err := tables[i].Markdown(&b); err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("table %d lacks %q:\n%s", i, w, b.String())
			}
		}
		for _, form := range Formats {
			if err := form.Write(&tables[i], &b); err != nil {
				t.Error(err)
			}
		}
		if strings.Contains(b.String(), "W = 250: N = 1") {
			t.Errorf("a warning of equal times:\n%s", b.String())
		}
	}
	if got := BusierThanCloud(someServer().Times[:3]); got != nil {
		t.Errorf("a warning of nothing: %q", got)
	}
	if got := (&Server{}).Tables(); len(got) != 0 {
		t.Errorf("tables of nothing: %+v", got)
	}
}

func TestServerFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	r, err := Create(dir, testSpec, testManifest(1))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if s, err := r.Server(); s != nil || err != nil {
		t.Errorf("a run without a server has %+v, %v", s, err)
	}
	if err := r.WriteServer(someServer()); err != nil {
		t.Fatal(err)
	}
	got, err := r.Server()
	if err != nil {
		t.Fatal(err)
	}
	want := someServer()
	want.Schema = ServerSchema
	diff(t, "server", got, want)
	file := filepath.Join(dir, "server.json")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, replaced, want string }{
		{`"schema": 1`, `"schema": 2`, "unsupported schema version 2, this program reads version 1"},
		{`"devices": 4`, `"devices": 0`, "of 0 devices"},
		{`"tokens": 226`, `"tokens": -1`, "expected 0 or more"},
		{`"mean": 540`, `"mean": -540`, "time 1 has the value -540, expected 0 or more"},
		{`"key"`, `"keys"`, "unknown field"},
	} {
		broken := bytes.Replace(whole, []byte(c.old), []byte(c.replaced), 1)
		if bytes.Equal(broken, whole) {
			t.Fatalf("no %s in the file", c.old)
		}
		if err := os.WriteFile(file, broken, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Server(); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", c.replaced, err)
		}
	}
	if err := r.WriteServer(nil); err != nil {
		t.Fatal(err)
	}
	if s, err := r.Server(); s != nil || err != nil {
		t.Errorf("removed, yet %+v, %v", s, err)
	}
	if err := r.WriteServer(nil); err != nil {
		t.Error(err)
	}
}

// FuzzServer: no text panics, and what is read is written and read the same.
func FuzzServer(f *testing.F) {
	s := someServer()
	s.Schema = ServerSchema
	b, err := json.Marshal(s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"schema":1}`))
	f.Add([]byte(`{"schema":1,"times":[{"devices":1,"seeds":1}]} x`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeServer(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeServer(again)
		if err != nil || len(back.Times) != len(s.Times) || !slices.Equal(back.Tokens, s.Tokens) {
			t.Fatalf("%s: %v", again, err)
		}
		s.Tables()
	})
}

// TestWriteServerRefuses: what could not be read again is not written, and what is stored stays.
func TestWriteServerRefuses(t *testing.T) {
	r, err := Create(filepath.Join(t.TempDir(), "run"), testSpec, testManifest(1))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.WriteServer(someServer()); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		change func(s *Server)
		want   string
	}{
		{func(s *Server) { s.Notes = append(s.Notes, strings.Repeat("x", maxServerJSON)) }, "for 6 points, expected at most 16777216 bytes"},
		{func(s *Server) { s.Times[1].Seeds = 0 }, "time 1 is of 4 devices, 0 tokens and 0 seeds, expected counts"},
	} {
		s := someServer()
		test.change(s)
		if err := r.WriteServer(s); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, want %s", err, test.want)
		}
		if old, err := r.Server(); err != nil || len(old.Notes) != 3 || old.Times[1].Seeds != 2 {
			t.Errorf("stored: %+v, %v", old, err)
		}
	}
}

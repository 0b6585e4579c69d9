package spec

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const served = small + "methods: [{name: fp32}]\n"

// TestServer reads the modelled server: absent, asked for by an output, and written.
func TestServer(t *testing.T) {
	if s := mustParse(t, served); s.Server != nil {
		t.Errorf("a server that nothing asks for: %+v", s.Server)
	}
	s := mustParse(t, served+"outputs: [server_tokens_vs_limit]\n")
	want := &Server{
		Accelerator: "NVIDIA RTX A6000", MemoryBandwidth: 768e9, MemoryEfficiency: .8, FLOPS: 154.8e12, FLOPEfficiency: .5, MemoryBytes: 51.5e9, Utilization: .9, ReserveBytes: 1e9,
		StepSeconds: .002, SequenceSeconds: 5e-5, MaxSequences: 256, StaticMaxSequences: 16, Chunk: 512,
		Panels: []string{"burst", "closed", "static"}, Shapes: []string{}, Devices: []int{1, 4, 16, 32, 64, 100, 150, 200}, MaxTokens: []int{250, 350},
		Limits: []int{0, 50, 100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 800, 1000}, Seeds: 10,
		Edge: ServerEdge{.08, 0, .7, 4}, Channel: ServerChannel{10e6, 10, 1, 1e-3, 0},
		Workload: ServerWorkload{10, 5, ServerLengths{128, .5, 16, 512}, ServerLengths{350, .5, 16, 1024}}, Split: ServerSplit{"sequence", false, 4},
	}
	if d := cmp.Diff(want, s.Server); d != "" {
		t.Errorf("defaults (-want +got):\n%s", d)
	}
	if d := cmp.Diff(want, mustParse(t, served+"server: {}\n").Server); d != "" {
		t.Errorf("an empty mapping (-want +got):\n%s", d)
	}
	s = mustParse(t, served+"server: {devices: [2, 7], seeds: 3, workload: {prompt: {mean: 9}}}\n", "server.split.include_kv=true", "server.max_tokens=[5]", "server.workload.output.max=40", "server.shapes=[Phi-4]")
	want.Devices, want.Seeds, want.MaxTokens, want.Shapes = []int{2, 7}, 3, []int{5}, []string{"Phi-4"}
	want.Workload.Prompt.Mean, want.Workload.Output.Max, want.Split.IncludeKV = 9, 40, true
	if d := cmp.Diff(want, s.Server); d != "" {
		t.Errorf("written values (-want +got):\n%s", d)
	}
	again := mustParse(t, string(s.YAML()))
	if d := cmp.Diff(s.Server, again.Server); d != "" || string(again.YAML()) != string(s.YAML()) {
		t.Errorf("written and read again (-want +got):\n%s\n%s", d, s.YAML())
	}
	// Cells know nothing of it.
	a, err := s.Cells(nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := mustParse(t, served).Cells(nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(a) != 1 || a[0].Key(nil) != b[0].Key(nil) || strings.Contains(string(a[0].Canonical(nil)), "server") {
		t.Errorf("cells %s and %s", a[0].Canonical(nil), b[0].Canonical(nil))
	}
}

func TestServerRequests(t *testing.T) {
	for server, want := range map[string]string{
		"{devices: [1, 101], workload: {jobs: 10000}}":                 "101 devices with 10000 requests each, expected at most 1000000 requests in all",
		"{workload: {jobs: 10000}}":                                    "150 devices with 10000 requests each",
		"{devices: [100], workload: {jobs: 10000}}":                    "",
		"{devices: [10000], panels: [burst], workload: {jobs: 10000}}": "",
		"{workload: {output: {max: 16385}}}":                           "16384",
		"{workload: {prompt: {max: 16385}}}":                           "16384",
	} {
		_, err := Parse("x.yaml", []byte(served+"server: "+server+"\n"), LoadOptions{})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", server, err, want)
		}
	}
	_, err := Parse("x.yaml", []byte(served+"server: {devices: [1, 101], workload: {jobs: 10000}}\n"), LoadOptions{})
	var all Errors
	if line := strings.Count(served, "\n") + 1; !errors.As(err, &all) || len(all) != 1 || all[0].Line != line || all[0].Column != 23 {
		t.Errorf("%v, want one fault at %d:23", err, line)
	}
}

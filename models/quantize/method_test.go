package quantize

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// Every preset is valid, has its own name and survives YAML.
func TestPresets(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range Presets() {
		if m.Name == "" || seen[m.Name] {
			t.Errorf("name %q", m.Name)
		}
		seen[m.Name] = true
		if err := m.Validate(); err != nil {
			t.Error(err)
		}
		text, err := yaml.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var back Method
		d := yaml.NewDecoder(bytes.NewReader(text))
		d.KnownFields(true)
		if err := d.Decode(&back); err != nil {
			t.Fatalf("%s: %v", m.Name, err)
		}
		if !reflect.DeepEqual(m, back) {
			t.Errorf("%s became\n%s", m.Name, text)
		}
		got, err := Preset(m.Name)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
	if _, err := Preset("nothing"); err == nil || !strings.Contains(err.Error(), "atom-w4a4") {
		t.Errorf("unknown preset: %v", err)
	}
}

// The table of OmniQuant's settings and Atom's paper setting.
func TestPresetSettings(t *testing.T) {
	for name, want := range map[string]OmniOptions{
		"omniquant-w4a4-llama1-7b":  {LWC: true, LET: true, Epochs: 20, AugLoss: true},
		"omniquant-w4a4-llama1-30b": {LWC: true, LET: true, Epochs: 20, AugLoss: true, Alpha: 0.75},
		"omniquant-w4a3-llama2":     {LWC: true, LET: true, Epochs: 20, Alpha: 0.75, LETRate: 1e-3},
		"omniquant-w6a6":            {LWC: true, LET: true, Epochs: 20},
		"omniquant-w3a16g128":       {LWC: true, Epochs: 20},
		"omniquant-w2a16g64":        {LWC: true, Epochs: 40, AugLoss: true},
	} {
		m, err := Preset(name)
		if err != nil || *m.Omni != want {
			t.Errorf("%s: %+v (%v), want %+v", name, m.Omni, err, want)
		}
	}
	m, err := Preset("atom-w4a3")
	if err != nil {
		t.Fatal(err)
	}
	g, damp, ok := m.GPTQSettings()
	if !ok || damp != 0.01 || g.Outliers != 128 || g.Outlier.Bits != 8 || g.Quantizer != AtomGPTQWeight(4, 128, 2, 0.85) {
		t.Errorf("atom: %+v, %v", g, damp)
	}
	a, ok := m.ActivationQuantizer()
	if !ok || a.Body != AtomActivation(3, 128, 0.9) || a.Outliers != 128 {
		t.Errorf("atom: %+v", a)
	}
	kv, ok := m.AttentionQuantizer(96)
	if !ok || kv.Bits != 3 || kv.Group != 96 || kv.Zeros != ZeroClamp {
		t.Errorf("atom: %+v", kv)
	}
	if err := m.CheckLinear("o_proj", 4096, 4096); err != nil {
		t.Error(err)
	}
	for want, shape := range map[string][2]int{"group 128 does not divide 4000": {4096, 4000}, "128 outlier columns of 128": {64, 128}, "does not divide 4095 outputs": {4095, 4096}} {
		if err := m.CheckLinear("o_proj", shape[0], shape[1]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	// The rerun with OmniQuant's quantizers: asymmetric, per head.
	m, err = Preset("smoothquant-asym-w4a4")
	if err != nil {
		t.Fatal(err)
	}
	if q, _ := m.WeightQuantizer(); q != OmniQuantWeight(4, 0) {
		t.Errorf("%+v", q)
	}
	if len(m.Smooth.Sweep) != 13 || m.Smooth.Sweep[12] != 0.9 {
		t.Errorf("sweep %v", m.Smooth.Sweep)
	}
}

func TestMethodRefuses(t *testing.T) {
	atom, smooth, omni := NewAtom(4, 4, 128, 128), NewSmoothQuant(4, 4, 0.5, true), NewOmniQuant(4, 4, 0, OmniOptions{LET: true})
	with := func(m Method, f func(m *Method)) Method { f(&m); return m }
	for want, m := range map[string]Method{
		`method: "x"`:                      {Algorithm: "x"},
		`quantizers: "rtn"`:                with(smooth, func(m *Method) { m.Quantizers = RTN }),
		"weight.bits: 9":                   with(atom, func(m *Method) { m.Weight.Bits = 9 }),
		"not quantized, but":               with(atom, func(m *Method) { m.Activation.Bits = 16 }),
		"weight.clip: 2":                   with(atom, func(m *Method) { m.Weight.Clip = 2 }),
		"weight.clip: smoothquant":         with(smooth, func(m *Method) { m.Weight.Clip = 0.9 }),
		"weight.group: smoothquant":        with(smooth, func(m *Method) { m.Weight.Group = 64 }),
		"activation.group: omniquant":      with(omni, func(m *Method) { m.Activation.Group = 64 }),
		"activation.clip: omniquant":       with(omni, func(m *Method) { m.Activation.Clip = 0.9 }),
		"weight.mse: omniquant":            with(omni, func(m *Method) { m.Weight.MSE = true }),
		"weight.shared_rows":               with(omni, func(m *Method) { m.Weight.Rows = 2 }),
		"activation: mse and shared_rows":  with(atom, func(m *Method) { m.Activation.Rows = 2 }),
		"activation: gptq quantizes":       with(NewRTN(4, 0, false), func(m *Method) { m.Activation.Bits = 4 }),
		"attention.place: missing":         with(atom, func(m *Method) { m.Attention.Place = AttentionNone }),
		`attention.place: "there"`:         with(atom, func(m *Method) { m.Attention.Place = "there" }),
		"rotated belongs":                  with(atom, func(m *Method) { m.Attention.Place = AttentionRotated }),
		"attention.group":                  with(atom, func(m *Method) { m.Attention.Group = 128 }),
		"smooth: belongs":                  with(atom, func(m *Method) { m.Smooth = &SmoothOptions{Alpha: 0.5} }),
		"smooth.alpha: 1.5":                with(smooth, func(m *Method) { m.Smooth = &SmoothOptions{Alpha: 1.5} }),
		"alpha and sweep":                  with(smooth, func(m *Method) { m.Smooth = &SmoothOptions{Alpha: 0.5, Sweep: []float64{0.5}} }),
		"omniquant: missing":               with(omni, func(m *Method) { m.Omni = nil }),
		"nothing to train":                 with(omni, func(m *Method) { m.Omni = &OmniOptions{Epochs: 3} }),
		"omniquant: belongs":               with(atom, func(m *Method) { m.Omni = &OmniOptions{} }),
		"outliers: without reorder":        with(atom, func(m *Method) { m.Reorder = false }),
		"outliers.columns: 0":              with(atom, func(m *Method) { m.Outliers = &Outliers{Bits: 8} }),
		"does not divide the 96 outlier":   with(atom, func(m *Method) { m.Outliers = &Outliers{Columns: 96, Bits: 8} }),
		"outliers.metric":                  with(atom, func(m *Method) { m.Outliers = &Outliers{Columns: 128, Bits: 8, Metric: "x"} }),
		"reorder: belongs":                 with(smooth, func(m *Method) { m.Reorder = true }),
		"gptq: belongs":                    with(smooth, func(m *Method) { m.GPTQ = &GPTQOptions{} }),
		"gptq.damp: 2":                     with(atom, func(m *Method) { m.GPTQ = &GPTQOptions{Damp: 2} }),
		"gptq.act_order":                   with(atom, func(m *Method) { m.GPTQ = &GPTQOptions{ActOrder: true} }),
		"gptq.static_groups":               NewGPTQ(4, 0, false, GPTQOptions{StaticGroups: true}),
		"gptq: missing":                    {Algorithm: GPTQMethod, Weight: Precision{Bits: 4}},
		"awq: belongs":                     with(atom, func(m *Method) { m.AWQ = &AWQOptions{} }),
		"quarot: belongs":                  with(atom, func(m *Method) { m.QuaRot = &QuaRotOptions{} }),
		"quarot: missing":                  with(NewQuaRot(4, 4, 4), func(m *Method) { m.QuaRot = nil }),
		"calibration: -1 sequences":        with(atom, func(m *Method) { m.Calibration.Sequences = -1 }),
		"omniquant.lwc: its gradients":     NewOmniQuant(4, 16, 0, OmniOptions{LWC: true}).symmetric(),
		"activation.bits: 1: want 2..8":    with(atom, func(m *Method) { m.Activation.Bits = 1 }),
		"weight.group: -1":                 with(atom, func(m *Method) { m.Weight.Group = -1 }),
		"omniquant: learning rates -1 and": NewOmniQuant(4, 4, 0, OmniOptions{LWCRate: -1}),
	} {
		if err := m.Validate(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
}

func (m Method) symmetric() Method {
	m.Weight.Sym = true
	return m
}

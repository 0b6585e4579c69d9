package bench

import "golang.org/x/sys/cpu"

// CPUFeatures lists the extensions of this CPU that kernels choose by, in a
// fixed order, under the names of Linux.
func CPUFeatures() []string {
	x, a := &cpu.X86, &cpu.ARM64
	names := []string{}
	for _, f := range []struct {
		name string
		has  bool
	}{
		{"sse4_1", x.HasSSE41}, {"avx", x.HasAVX}, {"avx2", x.HasAVX2}, {"bmi2", x.HasBMI2}, {"fma", x.HasFMA},
		{"avx512f", x.HasAVX512F}, {"avx512bw", x.HasAVX512BW}, {"avx512dq", x.HasAVX512DQ}, {"avx512vl", x.HasAVX512VL},
		{"avx512_vbmi", x.HasAVX512VBMI}, {"avx512_vbmi2", x.HasAVX512VBMI2}, {"avx512_vnni", x.HasAVX512VNNI}, {"avx512_bf16", x.HasAVX512BF16},
		{"asimd", a.HasASIMD}, {"asimdhp", a.HasASIMDHP}, {"asimddp", a.HasASIMDDP}, {"i8mm", a.HasI8MM}, {"sve", a.HasSVE}, {"sve2", a.HasSVE2},
	} {
		if f.has {
			names = append(names, f.name)
		}
	}
	return names
}

// Package quantize is the arithmetic of the quantization baselines: functions
// on float32 slices, proved on the outputs of the authors' code.
//
//   - Quantizer is one uniform quantizer: scheme, bits, granularity and the
//     details in which the libraries differ. presets.go names theirs. Simulate
//     gives quantized-and-dequantized numbers, Quantize the integers, scales
//     and zeros of a Tensor, whose Dequantize gives the same numbers.
//   - Mixed quantizes outlier columns apart (Atom). Clipping and Backward are
//     OmniQuant's learnable weight clipping and its straight-through gradients.
//   - Hessian, Factor and GPTQ are GPTQ and Atom's variant of it.
//   - Statistics and the functions of calibrate.go are what calibration gathers
//     and the scales, orders and clips that SmoothQuant, OmniQuant, Atom and AWQ
//     derive from it.
//   - Rotation and the Hadamard functions are QuaRot's.
//   - Random, Windows and DocumentWindows pick calibration windows as the
//     originals do.
//   - Method describes a whole method; Validate checks it.
//
// Nothing here runs a model: passes over a calibration set, hooks and files
// belong to the callers. Matrices are by rows: a weight (out, in), an activation
// (tokens, channels). Results do not depend on the number of workers, and
// products are rounded before they are summed, on every architecture.
//
// Sources: SmoothQuant arXiv 2211.10438, GPTQ 2210.17323, OmniQuant 2308.13137,
// Atom 2310.19102, AWQ 2306.00978, QuaRot 2404.00456, and their repositories.
package quantize

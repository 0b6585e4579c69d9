// Package quantise runs the quantization baselines of models/quantize on
// models: it calibrates block by block, hands every quantized block on, and
// reads and writes quantized checkpoints.
//
// Quantize embeds the calibration sequences and goes through the blocks. Per
// block it gathers statistics of the original model's activations where the
// method needs them (smoothing, reorder, AWQ), changes the weights by them,
// quantizes (round to nearest, or GPTQ on the inputs that the quantized blocks
// before produce), and runs the block on. Only one block, one Hessian and the
// residual stream of the calibration set are in memory at a time. Results
// depend on the calibration set and its order, not on workers or batches.
//
// Rotate writes a model in another basis of its residual stream, such as that
// of PrincipalAxes: the same function, with other values at a split, which
// Measure describes.
package quantise

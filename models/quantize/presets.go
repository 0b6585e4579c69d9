package quantize

// The quantizers of the original repositories, by the names of their code.
// A group of 0 or less means one scale per row.

// perRow sets the granularity of a weight or activation quantizer.
func perRow(q Quantizer, row, grouped Granularity, group int) Quantizer {
	q.Granularity = row
	if group > 0 {
		q.Granularity, q.Group = grouped, group
	}
	return q
}

// SmoothQuantWeight is SmoothQuant's weight quantizer: SYM-narrow per channel.
func SmoothQuantWeight(bits int) Quantizer {
	return Quantizer{Scheme: SymNarrow, Bits: bits, Granularity: PerChannel, Floor: 1e-5}
}

// SmoothQuantActivation is SmoothQuant's activation quantizer: SYM-narrow per token.
func SmoothQuantActivation(bits int) Quantizer {
	return Quantizer{Scheme: SymNarrow, Bits: bits, Granularity: PerToken, Floor: 1e-5}
}

// GPTQWeight is the Quantizer of GPTQ, also its RTN ("nearest"): SYM-shift
// when sym, else ASYM with the range widened to contain 0; mse is its search.
func GPTQWeight(bits, group int, sym, mse bool) Quantizer {
	q := Quantizer{Scheme: Asym, Bits: bits, Widen: true, Empty: EmptyRange, SearchMSE: mse, Tail: TailShort}
	if sym {
		q.Scheme, q.Widen = SymShift, false
	}
	return perRow(q, PerChannel, PerGroup, group)
}

// OmniQuantWeight is OmniQuant's UniformAffineQuantizer for weights: ASYM
// without widening, scales within 1e-5 .. 1e4.
func OmniQuantWeight(bits, group int) Quantizer {
	return perRow(Quantizer{Scheme: Asym, Bits: bits, Zeros: ZeroWide, ScaleMin: 1e-5, ScaleMax: 1e4}, PerChannel, PerGroup, group)
}

// OmniQuantSymmetric is OmniQuantWeight with its switch symmetric (SYM-offset,
// rows padded with zeros to whole groups), or without zero points as well
// (SYM-full).
func OmniQuantSymmetric(bits, group int, zeroPoint bool) Quantizer {
	q := OmniQuantWeight(bits, group)
	q.Scheme, q.Zeros, q.Tail = SymOffset, ZeroFree, TailPad
	if !zeroPoint {
		q.Scheme = SymFull
	}
	return q
}

// OmniQuantActivation is OmniQuant's activation quantizer: ASYM per token. With
// headDim > 0 it is that of queries, keys and values: per token and head.
func OmniQuantActivation(bits, headDim int) Quantizer {
	return perRow(OmniQuantWeight(bits, 0), PerToken, PerHead, headDim)
}

// AtomWeight is Atom's round-to-nearest weight quantizer: SYM-full with scale
// clip*absmax/(2^(b-1)-1), shared by pairs of rows when it has groups. Without
// groups the original ignores the clip and does not share.
func AtomWeight(bits, group, sharedRows int, clip float64) Quantizer {
	q := Quantizer{Scheme: SymFull, Bits: bits, Floor: 1e-5, Tail: TailShort}
	if group > 0 {
		q.SharedRows, q.Clip = sharedRows, clip
	}
	return perRow(q, PerChannel, PerGroup, group)
}

// AtomGPTQWeight is the quantizer within Atom's GPTQ: SYM-shift with scale
// 2*clip*absmax/(2^b-1), shared by sharedRows rows.
func AtomGPTQWeight(bits, group, sharedRows int, clip float64) Quantizer {
	q := GPTQWeight(bits, group, true, false)
	q.SharedRows, q.Clip = sharedRows, clip
	return q
}

// AtomActivation is Atom's activation quantizer: SYM-full per token and group.
func AtomActivation(bits, group int, clip float64) Quantizer {
	q := Quantizer{Scheme: SymFull, Bits: bits, Clip: clip, Floor: 1e-5, Tail: TailShort}
	return perRow(q, PerToken, PerTokenGroup, group)
}

// AtomOutlier is the quantizer of the outlier columns: SYM-full, one scale per
// row, no clip.
func AtomOutlier(bits int) Quantizer {
	return Quantizer{Scheme: SymFull, Bits: bits, Granularity: PerToken, Floor: 1e-5}
}

// AtomKV is Atom's quantizer of keys and values: ASYM per token and head with
// the zero point clamped into the integer range.
func AtomKV(bits, headDim int, clip float64) Quantizer {
	q := Quantizer{Scheme: Asym, Bits: bits, Zeros: ZeroClamp, Floor: 1e-5, Clip: clip}
	return perRow(q, PerToken, PerHead, headDim)
}

// AWQWeight is AWQ's pseudo_quantize_tensor: ASYM with clamped zero points, or
// SYM-full without.
func AWQWeight(bits, group int, zeroPoint bool) Quantizer {
	q := Quantizer{Scheme: Asym, Bits: bits, Zeros: ZeroClamp, Floor: 1e-5}
	if !zeroPoint {
		q.Scheme, q.Zeros = SymFull, ZeroFree
	}
	return perRow(q, PerChannel, PerGroup, group)
}

// QuaRotWeight is QuaRot's WeightQuantizer: SYM-full, or ASYM with widening;
// mse is its switch w_clip.
func QuaRotWeight(bits int, sym, mse bool) Quantizer {
	q := Quantizer{Scheme: SymFull, Bits: bits, Granularity: PerChannel, Floor: 1e-5, SearchMSE: mse}
	if !sym {
		q.Scheme, q.Widen, q.Empty = Asym, true, EmptyRange
	}
	return q
}

// QuaRotActivation is QuaRot's ActQuantizer: SYM-full, or ASYM widened to
// contain 0 per token, but not per group.
func QuaRotActivation(bits, group int, sym bool, clip float64) Quantizer {
	q := Quantizer{Scheme: SymFull, Bits: bits, Clip: clip, Empty: EmptyScale}
	if !sym {
		q.Scheme, q.Widen, q.Empty = Asym, group <= 0, EmptyRange
	}
	return perRow(q, PerToken, PerTokenGroup, group)
}

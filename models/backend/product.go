package backend

import "math"

// Operand is a matrix in host memory. Stride is the distance of two stored
// rows; with Transposed the stored matrix is the transposed one.
type Operand[T float32 | float64] struct {
	Data       []T
	Stride     int
	Transposed bool
}

// Product is C = A·B, or C += A·B with Accumulate, on host memory: A is (Rows,
// Terms), B is (Terms, Cols) and C (Rows, Cols) with rows Stride apart, all at
// least 1. Rows of C must not overlap the operands. It is the product of
// training, where every operand changes from step to step: forward x·Wᵀ,
// backward dy·W and dyᵀ·x.
type Product[T float32 | float64] struct {
	Rows, Cols, Terms int
	A, B              Operand[T]
	C                 []T
	Stride            int
	Accumulate        bool
}

// AdamFactors are the numbers of one step of AdamW (Loshchilov and Hutter,
// arXiv 1711.05101): with d = Scale*gradient,
//
//	first += First*(d-first)
//	second = Second*second + Rest*d²
//	values = Keep*values - Step*(first/(sqrt(second)/Root + Epsilon))
type AdamFactors[T float32 | float64] struct {
	Scale, First, Second, Rest, Epsilon, Root, Step, Keep T
}

// Move makes that step on values, their gradient and their moments, of equal
// length. Every operation is rounded by itself, so that vector kernels and other
// processors give the same bits.
func (k AdamFactors[T]) Move(values, gradient, first, second []T) {
	for i, d := range gradient {
		d = T(d * k.Scale)
		first[i] += T(k.First * (d - first[i]))
		second[i] = T(second[i]*k.Second) + T(T(d*d)*k.Rest)
		denominator := T(math.Sqrt(float64(second[i])))/k.Root + k.Epsilon
		values[i] = T(values[i]*k.Keep) - T(k.Step*T(first[i]/denominator))
	}
}

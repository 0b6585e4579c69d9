package backend

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

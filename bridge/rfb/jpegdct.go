package rfb

import "math"

// A pair is two blocks of 8×8 samples: each number is a sample of the first block plus 2³² times that of the second. Sums,
// differences and products with constants of such numbers are right for both halves at once, whatever their signs, if in the
// end both fit into 32 bits. So one pass of 64-bit arithmetic transforms two blocks, and without rounding on the way.
type pair [64]int64

// twice is the pair number that holds v in both halves.
const twice = 1 + 1<<32

// The constants of the transform, times dctScale: of the scales up to 400, above which numbers outgrow 32 bits, that for which
// they come closest to whole numbers. None is off by more than 0.03 %.
const (
	dctScale = 290
	dctHalf  = 205 // cos 4π/16
	dctCos   = 268 // cos 2π/16
	dctSin   = 111 // sin 2π/16
)

// transform is the DCT of ITU-T T.81, section A.3.3: samples 0 … 255 in rows become frequencies in zigzag order (figure A.6),
// each times a factor of its own, which the quantiser takes back.
func (p *pair) transform() {
	var r pair // transformed by columns
	for i := 0; i < 8; i++ {
		r[i], r[i+8], r[i+16], r[i+24], r[i+32], r[i+40], r[i+48], r[i+56] =
			dct8(p[i], p[i+8], p[i+16], p[i+24], p[i+32], p[i+40], p[i+48], p[i+56])
	}
	p[0], p[1], p[5], p[6], p[14], p[15], p[27], p[28] = dct8(r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7])
	p[2], p[4], p[7], p[13], p[16], p[26], p[29], p[42] = dct8(r[8], r[9], r[10], r[11], r[12], r[13], r[14], r[15])
	p[3], p[8], p[12], p[17], p[25], p[30], p[41], p[43] = dct8(r[16], r[17], r[18], r[19], r[20], r[21], r[22], r[23])
	p[9], p[11], p[18], p[24], p[31], p[40], p[44], p[53] = dct8(r[24], r[25], r[26], r[27], r[28], r[29], r[30], r[31])
	p[10], p[19], p[23], p[32], p[39], p[45], p[52], p[54] = dct8(r[32], r[33], r[34], r[35], r[36], r[37], r[38], r[39])
	p[20], p[22], p[33], p[38], p[46], p[51], p[55], p[60] = dct8(r[40], r[41], r[42], r[43], r[44], r[45], r[46], r[47])
	p[21], p[34], p[37], p[47], p[50], p[56], p[59], p[61] = dct8(r[48], r[49], r[50], r[51], r[52], r[53], r[54], r[55])
	p[35], p[36], p[48], p[49], p[57], p[58], p[62], p[63] = dct8(r[56], r[57], r[58], r[59], r[60], r[61], r[62], r[63])
	p[0] -= 64 * 128 * twice // the samples are to lie around 0, not 128
}

// dct8 transforms eight numbers by the method of Arai, Agui and Nakajima: output i is dctFactor(i) times what the DCT gives.
func dct8(a0, a1, a2, a3, a4, a5, a6, a7 int64) (b0, b1, b2, b3, b4, b5, b6, b7 int64) {
	s0, s1, s2, s3 := a0+a7, a1+a6, a2+a5, a3+a4
	d0, d1, d2, d3 := a0-a7, a1-a6, a2-a5, a3-a4

	t0, t1, t2, t3 := s0+s3, s1+s2, s1-s2, s0-s3
	b0, b4 = t0+t1, t0-t1
	z, t := (t2+t3)*dctHalf, t3*dctScale
	b2, b6 = t+z, t-z

	u0, u1, u2 := d3+d2, d2+d1, d1+d0
	z, t = u1*dctHalf, d0*dctScale
	x, y := t+z, t-z
	v, w := u0*dctCos-u2*dctSin, u2*dctCos+u0*dctSin
	b5, b3, b1, b7 = y+v, y-v, x+w, x-w
	return
}

func dctFactor(i int) float64 {
	if i%4 == 0 {
		return math.Sqrt(8)
	}
	return 4 * math.Cos(float64(i)*math.Pi/16) * dctScale
}

// zigzag is where in a block the numbers stand that are sent as the first, the second and so on. T.81, figure A.6.
var zigzag = [64]uint8{
	0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
}

// A quantiser divides the numbers of a transformed block by their steps, and to the nearest. T.81, section A.3.4.
type quantiser struct {
	reciprocal [64]int64 // of step and factor, in units of 2^-quantBits
	zero       [64]int64 // in both halves: a number whose size is up to this becomes zero
}

const quantBits = 48

func newQuantiser(steps *[64]uint8) *quantiser {
	q := new(quantiser)
	for i, at := range zigzag {
		q.reciprocal[i] = int64(math.Round((1 << quantBits) / (float64(steps[i]) * dctFactor(int(at/8)) * dctFactor(int(at%8)))))
		q.zero[i] = (1<<(quantBits-1)/q.reciprocal[i] + 1) * twice // one more, as nonzero is off by one at times
	}
	return q
}

// nonzero says which numbers of two blocks do not become zero: bit i is for number i. Most do, so at this point nothing is divided.
func (q *quantiser) nonzero(p *pair) (first, second uint64) {
	const signs = 1 << 31 * twice
	var low, high uint64 // flags of 32 numbers each, those of the first block in the lower half
	for i := 0; i < 32; i++ {
		// A negative half takes one from the half above it, where so -zero-1 may count as zero and zero may not.
		v, zero := p[i], q.zero[i]
		low = low>>1 | uint64((zero+v)|(zero-v))&signs
		v, zero = p[i+32], q.zero[i+32]
		high = high>>1 | uint64((zero+v)|(zero-v))&signs
	}
	return low&0xffffffff | high<<32, low>>32 | high>>32<<32
}

// number is number i of the first block with half 0 and shift 32, or of the second with half 1<<31 and shift 0.
func (q *quantiser) number(p *pair, i int, half int64, shift uint) int32 {
	v := (p[i&63] + half) << (shift & 63) >> 32
	return int32((v*q.reciprocal[i&63] + 1<<(quantBits-1)) >> quantBits)
}

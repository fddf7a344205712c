package rfb

import (
	"encoding/binary"
	"math/bits"
)

// A huffmanTable is as it is sent: how many codes there are of 1 … 16 bits, and what they mean, the shortest first.
// T.81, section B.2.4.2.
type huffmanTable struct {
	class  byte // 0 for means of blocks (DC), 0x10 for the rest (AC); and 1 for colour
	counts [16]byte
	values string
}

// huffmanTables are the typical ones of T.81, section K.3: DC and AC of brightness, then of colour.
var huffmanTables = [4]huffmanTable{
	{0x00, [16]byte{0, 1, 5, 1, 1, 1, 1, 1, 1}, "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b"},
	{0x10, [16]byte{0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125}, "" +
		"\x01\x02\x03\x00\x04\x11\x05\x12\x21\x31\x41\x06\x13\x51\x61\x07\x22\x71\x14\x32\x81\x91\xa1\x08\x23\x42\xb1\xc1" +
		"\x15\x52\xd1\xf0\x24\x33\x62\x72\x82\x09\x0a\x16\x17\x18\x19\x1a\x25\x26\x27\x28\x29\x2a\x34\x35\x36\x37\x38\x39" +
		"\x3a\x43\x44\x45\x46\x47\x48\x49\x4a\x53\x54\x55\x56\x57\x58\x59\x5a\x63\x64\x65\x66\x67\x68\x69\x6a\x73\x74\x75" +
		"\x76\x77\x78\x79\x7a\x83\x84\x85\x86\x87\x88\x89\x8a\x92\x93\x94\x95\x96\x97\x98\x99\x9a\xa2\xa3\xa4\xa5\xa6\xa7" +
		"\xa8\xa9\xaa\xb2\xb3\xb4\xb5\xb6\xb7\xb8\xb9\xba\xc2\xc3\xc4\xc5\xc6\xc7\xc8\xc9\xca\xd2\xd3\xd4\xd5\xd6\xd7\xd8" +
		"\xd9\xda\xe1\xe2\xe3\xe4\xe5\xe6\xe7\xe8\xe9\xea\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9\xfa"},
	{0x01, [16]byte{0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}, "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b"},
	{0x11, [16]byte{0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119}, "" +
		"\x00\x01\x02\x03\x11\x04\x05\x21\x31\x06\x12\x41\x51\x07\x61\x71\x13\x22\x32\x81\x08\x14\x42\x91\xa1\xb1\xc1\x09" +
		"\x23\x33\x52\xf0\x15\x62\x72\xd1\x0a\x16\x24\x34\xe1\x25\xf1\x17\x18\x19\x1a\x26\x27\x28\x29\x2a\x35\x36\x37\x38" +
		"\x39\x3a\x43\x44\x45\x46\x47\x48\x49\x4a\x53\x54\x55\x56\x57\x58\x59\x5a\x63\x64\x65\x66\x67\x68\x69\x6a\x73\x74" +
		"\x75\x76\x77\x78\x79\x7a\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x92\x93\x94\x95\x96\x97\x98\x99\x9a\xa2\xa3\xa4\xa5" +
		"\xa6\xa7\xa8\xa9\xaa\xb2\xb3\xb4\xb5\xb6\xb7\xb8\xb9\xba\xc2\xc3\xc4\xc5\xc6\xc7\xc8\xc9\xca\xd2\xd3\xd4\xd5\xd6" +
		"\xd7\xd8\xd9\xda\xe2\xe3\xe4\xe5\xe6\xe7\xe8\xe9\xea\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9\xfa"},
}

// huffmanCodes is a table for writing. Entries are by the run of zeros (high four bits) and the size of the number behind it
// (low four): the code with room for the number's bits, shifted by 8, and the length of both.
type huffmanCodes [256]uint64

// Two values have no number behind them.
const (
	endOfBlock = 0x00
	zeros16    = 0xf0
)

// codesOf is huffmanTables for writing, in that order.
var codesOf = func() (codes [4]huffmanCodes) {
	for i, t := range huffmanTables { // T.81, annex C
		code, next := uint64(0), 0
		for n, count := range t.counts {
			for range count {
				size := uint64(t.values[next] & 15)
				codes[i][t.values[next]] = code<<size<<8 | (uint64(n+1) + size)
				code++
				next++
			}
			code <<= 1
		}
	}
	return codes
}()

// maxCoded is the most that a block can take, bytes: 64 numbers of up to 26 bits, and a zero stuffed behind every byte.
const maxCoded = 64 * 26 / 8 * 2

// A bitWriter writes codes and stuffs a zero behind bytes of 0xff. T.81, section F.1.2.3.
type bitWriter struct {
	out  []byte
	acc  uint64 // bits that are not in out yet, the last one lowest; above them is rubbish
	free int    // how many more bits acc takes
}

// A component is what the blocks of brightness, or of one colour, have in common.
type component struct {
	steps *quantiser
	means *huffmanCodes
	rest  *huffmanCodes
	mean  int32 // of the block before
}

// block quantises and writes the first or the second block of a pair; nonzero is what the quantiser said of it. out has room
// for maxCoded bytes and eight more. T.81, sections F.1.2.1 and F.1.2.2.
func (w *bitWriter) block(c *component, p *pair, second bool, nonzero uint64) {
	half, shift := int64(0), uint(32)
	if second {
		half, shift = 1<<31, 0
	}
	acc, free := w.acc, w.free
	steps, rest := c.steps, c.rest

	v := steps.number(p, 0, half, shift)
	v, c.mean = v-c.mean, v
	sign := v >> 31
	size := bits.Len32(uint32((v ^ sign) - sign))
	code := c.means[size&15]
	last := 0 // the number that is written
	nonzero &^= 1
	for {
		// Due are a code and the lowest bits of v, or of v-1 when it is negative.
		length := int(code & 0xff)
		code = code>>8 | uint64(uint32(v+sign)&(1<<(size&31)-1))
		if free -= length; free >= 0 {
			acc = acc<<(length&63) | code
		} else {
			w.flush(acc<<((length+free)&63) | code>>(-free&63))
			acc = code
			free += 64
		}
		if nonzero == 0 {
			break
		}
		i := bits.TrailingZeros64(nonzero)
		run := i - last - 1
		if run > 15 {
			code, v, sign = rest[zeros16], 0, 0
			last += 16
			continue
		}
		last = i
		nonzero &= nonzero - 1
		v = steps.number(p, i, half, shift)
		sign = v >> 31
		size = bits.Len32(uint32((v ^ sign) - sign))
		code = rest[(run<<4|size)&0xff]
	}
	w.acc, w.free = acc, free
	if last != 63 {
		w.put(rest[endOfBlock])
	}
}

// blank writes a block that nobody sees: like the one before, and of one brightness.
func (w *bitWriter) blank(c *component) {
	w.put(c.means[0])
	w.put(c.rest[endOfBlock])
}

// put writes an entry of a table without a number.
func (w *bitWriter) put(entry uint64) {
	code, length := entry>>8, int(entry&0xff)
	if w.free -= length; w.free >= 0 {
		w.acc = w.acc<<(length&63) | code
		return
	}
	w.flush(w.acc<<((length+w.free)&63) | code>>(-w.free&63))
	w.acc = code
	w.free += 64
}

// flush writes eight bytes. What it writes is seldom stuffed: in one of 32 calls.
func (w *bitWriter) flush(v uint64) {
	const low, high = 0x0101010101010101, 0x8080808080808080
	n := len(w.out)
	w.out = w.out[:n+8]
	binary.BigEndian.PutUint64(w.out[n:], v)
	if (^v-low)&v&high != 0 { // there is a byte of 0xff
		w.out = w.out[:n]
		for shift := 56; shift >= 0; shift -= 8 {
			c := byte(v >> shift)
			w.out = append(w.out, c)
			if c == 0xff {
				w.out = append(w.out, 0)
			}
		}
	}
}

// end fills the last byte with ones and writes what is left.
func (w *bitWriter) end() {
	used := 64 - w.free
	acc := w.acc<<(w.free&63) | (1<<(w.free&63) - 1)
	for ; used > 0; used -= 8 {
		c := byte(acc >> 56)
		w.out = append(w.out, c)
		if c == 0xff {
			w.out = append(w.out, 0)
		}
		acc <<= 8
	}
}

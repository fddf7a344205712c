package rfb

// maxColours is the size of the largest palette; Tight allows no larger one.
const maxColours = 256

// paletteSlots is a power of two, four times maxColours, so that a search ends soon.
const (
	paletteBits  = 10
	paletteSlots = 1 << paletteBits
	paletteHash  = 0x9e3779b1 // odd, and its bits are well mixed: 2³² divided by the golden ratio
)

// A palette numbers colours in the order in which they are met. It takes no memory but its own.
type palette struct {
	n       int
	colours [maxColours]uint32
	slots   [paletteSlots]uint16 // number + 1 of a colour, 0 where there is none
}

// reset empties the palette.
func (p *palette) reset() {
	p.n = 0
	clear(p.slots[:])
}

// slot is where v stands or would stand.
func (p *palette) slot(v uint32) uint32 {
	at := v * paletteHash >> (32 - paletteBits)
	for p.slots[at] != 0 && p.colours[p.slots[at]-1] != v {
		at = (at + 1) % paletteSlots
	}
	return at
}

// number is the number of v, which is added when it is new; -1 when there would be more than limit.
func (p *palette) number(v uint32, limit int) int {
	at := p.slot(v)
	if i := p.slots[at]; i != 0 {
		return int(i) - 1
	}
	if p.n >= min(limit, maxColours) {
		return -1
	}
	p.colours[p.n] = v
	p.n++
	p.slots[at] = uint16(p.n)
	return p.n - 1
}

// cut forgets all colours but the first n. Going back in order keeps every search path whole.
func (p *palette) cut(n int) {
	for p.n > n {
		p.slots[p.slot(p.colours[p.n-1])] = 0
		p.n--
	}
}

// index numbers the colours of a block of rows w wide in lines of stride pixels, and writes the numbers to dst, whose lines are as
// long. It stops and says false when there are more than limit.
func (p *palette) index(dst []byte, px []uint32, stride, w, h, limit int) bool {
	last, number := ^px[0], 0
	for y := range h {
		out := dst[y*stride : y*stride+w]
		for x, v := range px[y*stride : y*stride+w] {
			if v != last {
				if i := p.slots[v*paletteHash>>(32-paletteBits)]; i != 0 && p.colours[(i-1)%maxColours] == v {
					number = int(i) - 1
				} else if number = p.number(v, limit); number < 0 {
					return false
				}
				last = v
			}
			out[x] = byte(number)
		}
	}
	return true
}

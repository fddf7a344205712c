package rfb

// A CursorKind is a way to send the pointer's shape, better ones above.
type CursorKind uint8

// Kinds of cursors.
const (
	CursorNone   CursorKind = iota // the pointer must be drawn into the picture
	CursorX                        // two colours and a mask
	CursorPixels                   // pixels of the viewer's format and a mask
	CursorVMware                   // colours with alpha
	CursorAlpha                    // colours with alpha, premultiplied
)

// Capabilities is what a viewer can do, from its list of encodings.
type Capabilities struct {
	Encoding  int32 // for pixels: the first of the list that is not Raw, when there is one
	Quality   int8  // JPEG quality level 0 … 9; -1: nothing may be lost
	Fine      uint8 // JPEG quality 1 … 100 instead of what the level stands for, or 0
	Sub       Subsampling
	JPEG      bool // the encoding JPEG
	Compress  int8 // 0 … 9, or -1
	Cursor    CursorKind
	CopyRect  bool
	QEMULED   bool
	VMwareLED bool

	LastRect, DesktopSize, ExtendedDesktopSize, DesktopName, PointerPos bool
	Fence, ContinuousUpdates, QEMUKey, ExtendedMouse, ExtendedClipboard bool

	// OneStream says that the viewer reads the encodings Zlib and ZRLE from one stream, as libvncclient does (Remmina, KRDC),
	// which matters when its user changes from one to the other.
	OneStream bool
}

// ParseEncodings reads a viewer's list, which replaces any list before. Numbers that are not known are ignored.
func ParseEncodings(list []int32) Capabilities {
	c := Capabilities{Encoding: Raw, Quality: -1, Compress: -1}
	for _, e := range list {
		switch e {
		case Tight, ZRLE, Zlib, Hextile, RRE:
			if c.Encoding == Raw {
				c.Encoding = e
			}
		case JPEG:
			c.JPEG = true
		case CopyRect:
			c.CopyRect = true
		case PseudoLastRect:
			c.LastRect = true
		case PseudoDesktopSize:
			c.DesktopSize = true
		case PseudoExtendedDesktopSize:
			c.ExtendedDesktopSize = true
		case PseudoDesktopName:
			c.DesktopName = true
		case PseudoPointerPos:
			c.PointerPos = true
		case PseudoFence:
			c.Fence = true
		case PseudoContinuousUpdates:
			c.ContinuousUpdates = true
		case PseudoQEMUKey:
			c.QEMUKey = true
		case PseudoQEMULED:
			c.QEMULED = true
		case PseudoVMwareLED:
			c.VMwareLED = true
		case PseudoExtendedMouse:
			c.ExtendedMouse = true
		case PseudoExtendedClipboard:
			c.ExtendedClipboard = true
		case pseudoLibVNC:
			c.OneStream = true
		case PseudoXCursor:
			c.Cursor = max(c.Cursor, CursorX)
		case PseudoCursor:
			c.Cursor = max(c.Cursor, CursorPixels)
		case PseudoVMwareCursor:
			c.Cursor = max(c.Cursor, CursorVMware)
		case PseudoCursorWithAlpha:
			c.Cursor = max(c.Cursor, CursorAlpha)
		default:
			switch {
			case e >= PseudoQuality0 && e <= PseudoQuality9:
				c.Quality = int8(e - PseudoQuality0)
			case e >= PseudoCompress0 && e <= PseudoCompress9:
				c.Compress = int8(e - PseudoCompress0)
			case e >= PseudoFineQuality0 && e <= PseudoFineQuality100:
				c.Fine = uint8(max(e-PseudoFineQuality0, 1))
			case e >= PseudoSubsampling0 && e <= PseudoSubsampling5:
				c.Sub = subsamplingOf(e - PseudoSubsampling0)
			}
		}
	}
	if c.Quality < 0 && c.Fine > 0 {
		c.Quality = levelOf(c.Fine)
	}
	return c
}

// AppendLED appends the state of the lock keys the way that the viewer knows, which must be one: scroll 1, num 2, caps 4.
func (c Capabilities) AppendLED(dst []byte, state uint8) []byte {
	if c.QEMULED {
		return AppendQEMULED(dst, state)
	}
	return AppendVMwareLED(dst, state)
}

// Optional is what a Reader must accept from a viewer of these capabilities, when the server announces all it can.
func (c Capabilities) Optional() Optional {
	var o Optional
	for _, a := range [...]struct {
		has bool
		o   Optional
	}{
		{c.QEMUKey, AllowQEMUKeys}, {c.Fence, AllowFence}, {c.Fence && c.ContinuousUpdates, AllowContinuousUpdates},
		{c.ExtendedMouse, AllowExtendedMouse}, {c.ExtendedDesktopSize, AllowDesktopSize}, {c.ExtendedClipboard, AllowClipboard},
	} {
		if a.has {
			o |= a.o
		}
	}
	return o
}

// coarsest is the lowest quality level that Coarser goes to: below it photographs fall apart and little is saved.
const coarsest = 1

// Coarser is c with a JPEG quality that is by levels lower, for a path that does not carry the quality that was asked for.
func (c Capabilities) Coarser(by int) Capabilities {
	if by > 0 && c.Quality > coarsest {
		c.Quality, c.Fine, c.Sub = max(c.Quality-int8(min(by, 9)), coarsest), 0, SubByLevel
	}
	return c
}

// Moving is c for what goes on changing, as a film does: pixels share their colours as they mostly did in the film itself, for little more than half of
// the work and two thirds of the bytes. Not so for a viewer that says how they are to be shared, or wants the best.
func (c Capabilities) Moving() Capabilities {
	if c.Sub == SubByLevel && c.Fine == 0 && c.Quality < int8(len(jpegLevels)-1) {
		c.Sub = Sub420
	}
	return c
}

// Params is how to encode for a viewer of these capabilities. Viewers whose bytes would be equal get equal Params, so that a
// batch can be made once for all of them.
func (c Capabilities) Params(f PixelFormat, lossless bool) Params {
	return Params{
		Encoding: c.Encoding, Format: f, Quality: c.Quality, Fine: c.Fine, Sub: c.Sub, JPEG: c.JPEG,
		Compress: c.Compress, Lossless: lossless,
	}.plain()
}

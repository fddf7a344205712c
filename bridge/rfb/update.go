package rfb

import (
	"encoding/binary"
	"image"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/wire"
)

// Why and with what result an ExtendedDesktopSize rectangle is sent.
const (
	ReasonServer = 0 // the desktop changed by itself
	ReasonClient = 1 // this viewer asked
	ReasonOther  = 2 // another viewer asked

	ResultOK         = 0
	ResultProhibited = 1
	ResultResources  = 2
	ResultLayout     = 3
)

// Flags of a fence. An answer carries those of the request that are understood, without FenceRequest.
const (
	FenceBlockBefore uint32 = 1
	FenceBlockAfter  uint32 = 2
	FenceSyncNext    uint32 = 4
	FenceRequest     uint32 = 1 << 31
)

// UnknownRects is the count of an update that ends with AppendLastRect.
const UnknownRects = 0xffff

// AppendUpdateHeader begins a FramebufferUpdate of that many rectangles. RFC 6143, section 7.6.1.
func AppendUpdateHeader(dst []byte, rects int) []byte {
	return binary.BigEndian.AppendUint16(append(dst, serverUpdate, 0), uint16(rects))
}

// appendRect appends the header of a rectangle.
func appendRect(dst []byte, r image.Rectangle, encoding int32) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(r.Min.X))
	dst = binary.BigEndian.AppendUint16(dst, uint16(r.Min.Y))
	dst = binary.BigEndian.AppendUint16(dst, uint16(r.Dx()))
	dst = binary.BigEndian.AppendUint16(dst, uint16(r.Dy()))
	return binary.BigEndian.AppendUint32(dst, uint32(encoding))
}

// AppendAnnounce appends an empty rectangle of a pseudo-encoding, by which a server says that it knows it (QEMU keys,
// extended mouse buttons). It counts as one rectangle.
func AppendAnnounce(dst []byte, encoding int32) []byte {
	return appendRect(dst, image.Rectangle{}, encoding)
}

// AppendLastRect ends an update of UnknownRects.
func AppendLastRect(dst []byte) []byte { return AppendAnnounce(dst, PseudoLastRect) }

// AppendCopyRect appends a rectangle that the viewer copies from its own picture. RFC 6143, section 7.7.2.
func AppendCopyRect(dst []byte, c frame.Copy) []byte {
	dst = appendRect(dst, c.To, CopyRect)
	dst = binary.BigEndian.AppendUint16(dst, uint16(c.From.X))
	return binary.BigEndian.AppendUint16(dst, uint16(c.From.Y))
}

// AppendDesktopSize appends the new size of the desktop; it must be the last rectangle of its update. RFC 6143, section 7.8.2.
func AppendDesktopSize(dst []byte, size image.Point) []byte {
	return appendRect(dst, image.Rectangle{Max: size}, PseudoDesktopSize)
}

// AppendExtendedDesktopSize appends size and screens, at most 255 of them, with the reason and the result of a change. It
// stands in an update of its own.
func AppendExtendedDesktopSize(dst []byte, reason, result int, size image.Point, screens []frame.Screen) []byte {
	screens = screens[:min(len(screens), 255)]
	at := image.Pt(reason, result)
	dst = appendRect(dst, image.Rectangle{Min: at, Max: at.Add(size)}, PseudoExtendedDesktopSize)
	dst = append(dst, byte(len(screens)), 0, 0, 0)
	for _, s := range screens {
		dst = binary.BigEndian.AppendUint32(dst, s.ID)
		dst = binary.BigEndian.AppendUint16(dst, uint16(s.Rect.Min.X))
		dst = binary.BigEndian.AppendUint16(dst, uint16(s.Rect.Min.Y))
		dst = binary.BigEndian.AppendUint16(dst, uint16(s.Rect.Dx()))
		dst = binary.BigEndian.AppendUint16(dst, uint16(s.Rect.Dy()))
		dst = append(dst, 0, 0, 0, 0) // flags, none of which is defined
	}
	return dst
}

// AppendDesktopName appends the desktop's name, cut to MaxName bytes.
func AppendDesktopName(dst []byte, name string) []byte {
	return wire.AppendString32(AppendAnnounce(dst, PseudoDesktopName), oneLine(name, MaxName))
}

// AppendPointerPos appends where the pointer is, for viewers that draw it themselves.
func AppendPointerPos(dst []byte, at image.Point) []byte {
	return appendRect(dst, image.Rectangle{Min: at, Max: at}, PseudoPointerPos)
}

// AppendQEMULED appends the state of the lock keys: scroll 1, num 2, caps 4.
func AppendQEMULED(dst []byte, state uint8) []byte {
	return append(AppendAnnounce(dst, PseudoQEMULED), state)
}

// AppendVMwareLED appends the state of the lock keys: scroll 1, num 2, caps 4.
func AppendVMwareLED(dst []byte, state uint8) []byte {
	return binary.BigEndian.AppendUint32(AppendAnnounce(dst, PseudoVMwareLED), uint32(state))
}

// AppendColourMap appends the colours of viewers without true colour: blue, green and red in 2, 3 and 3 bits.
// RFC 6143, section 7.6.2.
func AppendColourMap(dst []byte) []byte {
	dst = append(dst, serverColourMap, 0, 0, 0, 1, 0)
	for v := range 256 {
		dst = binary.BigEndian.AppendUint16(dst, uint16(v&7*65535/7))
		dst = binary.BigEndian.AppendUint16(dst, uint16(v>>3&7*65535/7))
		dst = binary.BigEndian.AppendUint16(dst, uint16(v>>6*65535/3))
	}
	return dst
}

// AppendBell appends a Bell message. RFC 6143, section 7.6.3.
func AppendBell(dst []byte) []byte { return append(dst, serverBell) }

// AppendServerCutText appends text for the viewer's clipboard: Latin-1, lines ended by a line feed. RFC 6143, section 7.6.4.
func AppendServerCutText(dst, text []byte) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, serverCutText, 0, 0, 0), uint32(len(text)))
	return append(dst, text...)
}

// AppendFence appends a fence with at most MaxFence bytes of payload.
func AppendFence(dst []byte, flags uint32, payload []byte) []byte {
	payload = payload[:min(len(payload), MaxFence)]
	dst = binary.BigEndian.AppendUint32(append(dst, serverFence, 0, 0, 0), flags)
	return append(append(dst, byte(len(payload))), payload...)
}

// AppendEndOfCU appends EndOfContinuousUpdates, which also announces them.
func AppendEndOfCU(dst []byte) []byte { return append(dst, serverEndOfCU) }

package tunnel

import "encoding/binary"

// A frame of yamux, without its data: version, type, flags, stream, length.
// https://github.com/hashicorp/yamux/blob/v0.1.2/spec.md
type frame struct {
	version, kind uint8
	flags         uint16
	stream        uint32
	length        uint32 // data: bytes that follow; update: bytes more that the sender of data may send; else a number
}

const frameHeader = 12 // bytes

// The types of frames.
const (
	frameData   = 0
	frameUpdate = 1
	framePing   = 2
	frameGoAway = 3
)

// The flags of frames. SYN marks the first frame of a stream, or a ping; ACK the first one back, or the answer to a ping.
const (
	flagSYN = 1
	flagACK = 2
	flagFIN = 4
	flagRST = 8
)

// firstWindow is what a side may send in a new stream, bytes.
const firstWindow = 256 << 10

func parseFrame(b []byte) frame {
	return frame{b[0], b[1], binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])}
}

func (f frame) appendTo(dst []byte) []byte {
	dst = append(dst, f.version, f.kind)
	dst = binary.BigEndian.AppendUint16(dst, f.flags)
	dst = binary.BigEndian.AppendUint32(dst, f.stream)
	return binary.BigEndian.AppendUint32(dst, f.length)
}

// data is how many bytes follow.
func (f frame) data() int {
	if f.kind == frameData {
		return int(f.length)
	}
	return 0
}

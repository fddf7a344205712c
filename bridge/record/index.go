package record

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// An index is "HLX 001.000\n" and keys: U64 offset, U32 milliseconds at which the key is whole.
const (
	indexMagic = "HLX 001.000\n"
	keySize    = 12
	maxKeys    = 1 << 16 // of an index; more are not looked at
)

// A Key is a place in a file from which on nothing before is needed. From Whole on the picture is right for who began there.
type Key struct {
	Offset int64 // of the block that it begins with
	Whole  time.Duration
}

// IndexHead begins an index.
func IndexHead() []byte { return []byte(indexMagic) }

// AppendTo appends the key to an index.
func (k Key) AppendTo(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(k.Offset))
	return binary.BigEndian.AppendUint32(dst, uint32(k.Whole/time.Millisecond))
}

// ReadIndex reads an index as far as it is one: it may have been cut off.
func ReadIndex(r io.Reader) ([]Key, error) {
	head := make([]byte, len(indexMagic))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != indexMagic {
		return nil, fmt.Errorf("the index of the recording begins with %q, not %q", head, indexMagic)
	}
	var keys []Key
	var b [keySize]byte
	for len(keys) < maxKeys {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			break
		}
		k := Key{
			Offset: int64(binary.BigEndian.Uint64(b[:])),
			Whole:  time.Duration(binary.BigEndian.Uint32(b[8:])) * time.Millisecond,
		}
		if n := len(keys); k.Offset <= 0 || n > 0 && (k.Offset <= keys[n-1].Offset || k.Whole < keys[n-1].Whole) {
			break
		}
		keys = append(keys, k)
	}
	return keys, nil
}

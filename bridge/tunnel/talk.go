package tunnel

import (
	"encoding/binary"
	"fmt"
	"io"
)

// MaxWord is the longest word of a Talk stream, bytes.
const MaxWord = 4 << 10

// WriteWord writes one word of a Talk stream, which is JSON behind its length of two bytes, in one write.
func WriteWord(w io.Writer, word []byte) error {
	if len(word) > MaxWord {
		return fmt.Errorf("a word of %d bytes, more than %d", len(word), MaxWord)
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(word))), word...))
	return err
}

// ReadWord reads one word. io.EOF is the end between two.
func ReadWord(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n > MaxWord {
		return nil, fmt.Errorf("a word of %d bytes, more than %d", n, MaxWord)
	}
	word := make([]byte, n)
	if _, err := io.ReadFull(r, word); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	return word, nil
}

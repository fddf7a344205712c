package record

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// A sealed file holds a recording that only the private key of its operator opens, which is not where it is recorded:
//
//	"HLS 001.000\n"
//	32 bytes: the key's encapsulation, of HPKE's DHKEM(X25519, HKDF-SHA256). RFC 9180, section 4.1.
//	pieces:  U32 length of the data, the data sealed by AES-256-GCM, 16 bytes longer; the nonce is the piece's number, 12 bytes
//
// The key of AES is what HPKE exports for sealedInfo. What was cut off behind some piece opens up to there, as after a kill; a piece that was
// changed, moved or taken out of the middle does not open. Many small updates are one piece, so that a file is hardly longer for its seal.
const (
	sealedMagic = "HLS 001.000\n"
	sealedInfo  = "helmline recording 1"
	sealedHead  = len(sealedMagic) + 32
	pieceMore   = 4 + 16   // bytes of a piece beside the data
	pieceSize   = 16 << 10 // bytes of its data, at most, as written
	maxPiece    = 1 << 20  // and as read
	maxPieces   = 1 << 23  // of a file: 24 hours with 60 updates a second are fewer
)

// ErrKey says that a sealed file is not for that key, or that its first piece was changed.
var ErrKey = errors.New("the recording does not open with this key")

// aead makes the cipher of the pieces from what HPKE exports.
func aead(export func(string, int) ([]byte, error)) (cipher.AEAD, error) {
	key, err := export(sealedInfo, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func nonce(piece uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 4, 12), piece)
}

// A Sealer seals what is written to it, as a recording or its index. It is used by one goroutine. Its memory is two pieces.
type Sealer struct {
	w      io.Writer
	aead   cipher.AEAD
	n      uint64
	open   []byte // gathered for the next piece
	sealed []byte // scratch memory
}

// Seal begins a sealed file for the key, of X25519.
func Seal(w io.Writer, key *ecdh.PublicKey) (*Sealer, error) {
	pub, err := hpke.NewDHKEMPublicKey(key)
	if err != nil {
		return nil, err
	}
	enc, sender, err := hpke.NewSender(pub, hpke.HKDFSHA256(), hpke.ExportOnly(), []byte(sealedInfo))
	if err != nil {
		return nil, err
	}
	s := &Sealer{w: w, open: make([]byte, 0, pieceSize)}
	if s.aead, err = aead(sender.Export); err != nil {
		return nil, err
	}
	_, err = w.Write(append([]byte(sealedMagic), enc...))
	return s, err
}

// Write gathers bytes, and seals each piece that is full.
func (s *Sealer) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		m := min(len(p)-n, pieceSize-len(s.open))
		s.open = append(s.open, p[n:n+m]...)
		n += m
		if len(s.open) == pieceSize {
			err = s.Flush()
		}
	}
	return n, err
}

// Buffered is how much has been gathered, bytes.
func (s *Sealer) Buffered() int { return len(s.open) }

// Flush seals what has been gathered, even if it is little.
func (s *Sealer) Flush() error {
	if len(s.open) == 0 {
		return nil
	}
	s.sealed = binary.BigEndian.AppendUint32(s.sealed[:0], uint32(len(s.open)))
	s.sealed = s.aead.Seal(s.sealed, nonce(s.n), s.open, nil)
	s.n++
	s.open = s.open[:0]
	_, err := s.w.Write(s.sealed)
	return err
}

// Sealed says whether a file is a sealed one.
func Sealed(r io.ReaderAt) bool {
	head := make([]byte, len(sealedMagic))
	_, err := r.ReadAt(head, 0)
	return err == nil && string(head) == sealedMagic
}

// An unsealed is the recording in a sealed file.
type unsealed struct {
	r    io.ReaderAt
	aead cipher.AEAD
	ends []int64 // of each piece's data, in the recording

	mu    sync.Mutex // guards what follows
	at    int        // the piece that open holds
	open  []byte
	piece []byte // as it is in the file
}

// Unseal opens a sealed file of that many bytes. It gives the recording and its size, for Open; several goroutines may read it. Its memory is
// 8 bytes for each piece, and two pieces.
func Unseal(r io.ReaderAt, size int64, key *ecdh.PrivateKey) (io.ReaderAt, int64, error) {
	head := make([]byte, sealedHead)
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, 0, inside(err)
	}
	private, err := hpke.NewDHKEMPrivateKey(key)
	if err != nil {
		return nil, 0, err
	}
	recipient, err := hpke.NewRecipient(head[len(sealedMagic):], private, hpke.HKDFSHA256(), hpke.ExportOnly(), []byte(sealedInfo))
	if err != nil {
		return nil, 0, ErrKey
	}
	u := &unsealed{r: r, at: -1}
	if u.aead, err = aead(recipient.Export); err != nil {
		return nil, 0, err
	}
	end := int64(0)
	for at := int64(sealedHead); at+4 <= size; {
		var b [4]byte
		if _, err := r.ReadAt(b[:], at); err != nil {
			return nil, 0, inside(err)
		}
		n := int64(binary.BigEndian.Uint32(b[:]))
		if n == 0 || n > maxPiece || len(u.ends) == maxPieces {
			return nil, 0, fmt.Errorf("piece %d is of %d bytes, not 1 to %d, or one too many", len(u.ends), n, maxPiece)
		}
		if at += n + pieceMore; at > size {
			break
		}
		end += n
		u.ends = append(u.ends, end)
	}
	if len(u.ends) > 0 && u.fetch(0) != nil {
		return nil, 0, ErrKey
	}
	return u, end, nil
}

// ReadAt reads from the recording.
func (u *unsealed) ReadAt(p []byte, at int64) (n int, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	i, _ := slices.BinarySearch(u.ends, at+1) // the first piece that ends behind at
	for ; n < len(p) && i < len(u.ends); i++ {
		if err := u.fetch(i); err != nil {
			return n, err
		}
		n += copy(p[n:], u.open[at+int64(n)-u.begin(i):])
	}
	if n < len(p) {
		err = io.EOF
	}
	return n, err
}

// begin is where a piece begins in the recording.
func (u *unsealed) begin(i int) int64 {
	if i == 0 {
		return 0
	}
	return u.ends[i-1]
}

// fetch opens a piece.
func (u *unsealed) fetch(i int) error {
	if u.at == i {
		return nil
	}
	u.at = -1
	begin := u.begin(i)
	sealed := int(u.ends[i]-begin) + u.aead.Overhead()
	u.piece = slices.Grow(u.piece[:0], sealed)[:sealed]
	if _, err := u.r.ReadAt(u.piece, int64(sealedHead)+begin+int64(i*pieceMore)+4); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	open, err := u.aead.Open(u.open[:0], nonce(uint64(i)), u.piece, nil)
	if err != nil {
		return fmt.Errorf("piece %d was changed", i)
	}
	u.open, u.at = open, i
	return nil
}

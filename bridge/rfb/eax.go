package rfb

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

// errTag says that a message was altered, or sealed with another key or nonce.
var errTag = errors.New("a message does not bear the tag of its key")

// eaxBlock is the size of a block, a nonce and a tag, bytes.
const eaxBlock = aes.BlockSize

// longText is from how many bytes on the library's counter mode, which works on many blocks at a time but takes half a KiB of
// memory for each message, beats one block after the other: some 8 times at 8 KiB.
const longText = 256

// An eax is AES in EAX mode: counter mode, and a tag that is the sum of three OMACs. M. Bellare, P. Rogaway, D. Wagner: The EAX
// Mode of Operation, 2004. It is used by one goroutine. What it hands to the cipher would escape, so that it stands here.
type eax struct {
	block   cipher.Block
	cbc     cipher.BlockMode  // goes on from its last output, which is mac
	k1, k2  [eaxBlock]byte    // of CMAC, for a last block that is whole and one that is not
	started [3][eaxBlock]byte // OMAC t behind its first block
	in, mac [eaxBlock]byte
	tag     [eaxBlock]byte
	ctr     [eaxBlock]byte
	stream  [eaxBlock]byte // the key stream of one block
	spent   [1024]byte     // what cbc gives out in between
}

// newEAX makes one for a key of 16 or 32 bytes.
func newEAX(key []byte) (*eax, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	e := &eax{block: block, cbc: cipher.NewCBCEncrypter(block, make([]byte, eaxBlock))}
	block.Encrypt(e.k2[:], e.k2[:])
	e.k1 = double(e.k2)
	e.k2 = double(e.k1)
	for t := range e.started {
		e.in = [eaxBlock]byte{eaxBlock - 1: byte(t)}
		block.Encrypt(e.started[t][:], e.in[:])
	}
	return e, nil
}

// double multiplies by x in the field of 2¹²⁸ elements that CMAC uses.
func double(b [eaxBlock]byte) [eaxBlock]byte {
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	carry := hi >> 63
	binary.BigEndian.PutUint64(b[:8], hi<<1|lo>>63)
	binary.BigEndian.PutUint64(b[8:], lo<<1^carry*0x87)
	return b
}

// seal puts the ciphertext of plain and its tag into dst, which is eaxBlock bytes longer, and apart from plain or begins with it.
func (e *eax) seal(dst, plain []byte, nonce *[eaxBlock]byte, ad []byte) {
	text := dst[:len(plain)]
	e.begin(nonce, ad)
	e.xorKeyStream(text, plain)
	e.omac(2, text)
	subtle.XORBytes(dst[len(plain):], e.tag[:], e.mac[:])
}

// open checks the tag behind a ciphertext, then decrypts in place. It gives back what is left without the tag.
func (e *eax) open(sealed []byte, nonce *[eaxBlock]byte, ad []byte) ([]byte, error) {
	text, tag := sealed[:len(sealed)-eaxBlock], sealed[len(sealed)-eaxBlock:]
	e.begin(nonce, ad)
	e.omac(2, text)
	xorBlock(&e.tag, &e.mac)
	if subtle.ConstantTimeCompare(tag, e.tag[:]) != 1 {
		return nil, errTag
	}
	e.xorKeyStream(text, text)
	return text, nil
}

// begin sets the counter, and that part of the tag that does not depend on the text.
func (e *eax) begin(nonce *[eaxBlock]byte, ad []byte) {
	e.omac(0, nonce[:])
	e.ctr, e.tag = e.mac, e.mac
	e.omac(1, ad)
	xorBlock(&e.tag, &e.mac)
}

// omac leaves OMAC t of x in mac: CMAC of a block that holds t, and x.
func (e *eax) omac(t byte, x []byte) {
	e.in = e.mac // cancels what cbc adds
	if len(x) == 0 {
		e.in[eaxBlock-1] ^= t
		xorBlock(&e.in, &e.k1)
		e.cbc.CryptBlocks(e.mac[:], e.in[:])
		return
	}
	xorBlock(&e.in, &e.started[t])
	if len(x) > eaxBlock {
		xorBlock(&e.in, (*[eaxBlock]byte)(x))
		e.cbc.CryptBlocks(e.mac[:], e.in[:])
		e.in, x = [eaxBlock]byte{}, x[eaxBlock:]
	}
	for len(x) > eaxBlock {
		n := min((len(x)-1)/eaxBlock*eaxBlock, len(e.spent))
		e.cbc.CryptBlocks(e.spent[:n], x[:n])
		x = x[n:]
	}
	subtle.XORBytes(e.in[:], e.in[:len(x)], x)
	if len(x) == eaxBlock {
		xorBlock(&e.in, &e.k1)
	} else {
		e.in[len(x)] ^= 0x80
		xorBlock(&e.in, &e.k2)
	}
	e.cbc.CryptBlocks(e.mac[:], e.in[:])
}

// xorKeyStream is counter mode from ctr on.
func (e *eax) xorKeyStream(dst, src []byte) {
	if len(src) >= longText {
		cipher.NewCTR(e.block, e.ctr[:]).XORKeyStream(dst, src)
		return
	}
	hi, lo := binary.BigEndian.Uint64(e.ctr[:8]), binary.BigEndian.Uint64(e.ctr[8:])
	for len(src) > 0 {
		binary.BigEndian.PutUint64(e.ctr[:8], hi)
		binary.BigEndian.PutUint64(e.ctr[8:], lo)
		e.block.Encrypt(e.stream[:], e.ctr[:])
		n := subtle.XORBytes(dst, src, e.stream[:])
		dst, src = dst[n:], src[n:]
		if lo++; lo == 0 {
			hi++
		}
	}
}

func xorBlock(dst, b *[eaxBlock]byte) {
	ne := binary.NativeEndian
	ne.PutUint64(dst[:8], ne.Uint64(dst[:8])^ne.Uint64(b[:8]))
	ne.PutUint64(dst[8:], ne.Uint64(dst[8:])^ne.Uint64(b[8:]))
}

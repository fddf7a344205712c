package rfb

import (
	"image"

	"github.com/helmline/helmline/bridge/frame"
)

// A JPEGEncoder is one of the encoders behind Tight, for tests.
type JPEGEncoder interface {
	append(dst []byte, img frame.Image, r image.Rectangle, q jpegQuality) []byte
}

// NewGoJPEG makes the encoder in Go.
func NewGoJPEG() JPEGEncoder { return &goJPEG{} }

// NewJPEG makes the encoder that Encoder uses.
func NewJPEG() JPEGEncoder { return &new(Encoder).jpeg }

// AppendJPEG appends a picture.
func AppendJPEG(e JPEGEncoder, dst []byte, img frame.Image, r image.Rectangle, quality int, sub Subsampling) []byte {
	return e.append(dst, img, r, jpegQuality{uint8(quality), sub})
}

// JPEGLevel is what a quality level stands for.
func JPEGLevel(level int) (quality int, sub Subsampling) {
	return int(jpegLevels[level].quality), jpegLevels[level].sub
}
